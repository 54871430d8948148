# shellcheck shell=bash
# Messages, names, time. Sourced by lab.

say() { printf 'lab: %s\n' "$*" >&2; }

die() {
	say "$*"
	exit 1
}

# Names become directories, control groups and host names.
check_name() {
	[[ $1 =~ ^[a-z0-9][a-z0-9-]{0,31}$ ]] ||
		die "'$1' is no name for a lab: 1 to 32 lower case letters, digits and '-'"
}

now_ms() {
	local t=${EPOCHREALTIME/[.,]/}
	echo "${t%???}"
}

# step_begin; step_done TEXT: prints TEXT with the seconds since the last call of either.
step_begin() { STEP_MS=$(now_ms); }

step_done() {
	local t
	t=$(now_ms)
	say "$(printf '%5d.%d s  %s' $(((t - STEP_MS) / 1000)) $(((t - STEP_MS) % 1000 / 100)) "$*")"
	STEP_MS=$t
}

# wait_for SECONDS CMD...: repeats CMD until it succeeds; fails when the time is over.
wait_for() {
	local end=$(($(now_ms) + $1 * 1000))
	shift
	until "$@" >/dev/null 2>&1; do
		[ "$(now_ms)" -lt "$end" ] || return 1
		sleep 0.03
	done
}

# with_lock NAME CMD...: one CMD at a time under this name, on this machine. CMD runs in a subshell, so the lock ends
# with it however it ends; a child that outlives CMD must close descriptor 9.
with_lock() (
	mkdir -p /run/lock/ic-agent-lab
	exec 9>"/run/lock/ic-agent-lab/$1"
	flock 9
	shift
	"$@"
)
