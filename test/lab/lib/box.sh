# shellcheck shell=bash
# A lab as processes: boot, reboot, removal. Sourced by lab.
#
# $LAB_STATE/NAME/ holds root/ (its root filesystem) and console.log.
# Everything it runs is below that control group and in one process id namespace; its mounts are in one mount
# namespace. So ending the namespace's first process ends them all, and nothing else on this machine knows of them.

# The name was checked by main; an empty one here would mean all labs.
lab_dir() { echo "$LAB_STATE/${1:?}"; }

lab_cgroup() { echo "$(cgroup2_mount)/ic-agent-lab-${1:?}"; }

# box_pid NAME: its systemd's process id; fails when there is none.
box_pid() {
	local pid
	read -r pid <"$(lab_cgroup "$1")/box/payload/init.scope/cgroup.procs" && echo "$pid"
} 2>/dev/null

lab_up() {
	need_host
	rootfs_ensure
	with_lock "name-$1" box_up "$1"
}

box_up() {
	local name=$1 began
	began=$(now_ms)
	if box_ready "$name" 2>/dev/null; then
		say "$name is up"
		return
	fi
	box_remove "$name"
	step_begin
	box_unpack "$name"
	step_done "root filesystem copied"
	load_modules
	box_start "$name"
	box_await "$name" box_booted 30 "systemd did not come up"
	step_done "systemd booted"
	box_exec "$name" incus admin init --preseed <"$(lab_dir "$name")/root/etc/lab/preseed.yaml" 2>/dev/null ||
		box_broken "$name" "incus could not be initialised"
	step_done "Incus $(box_exec "$name" incus --version) initialised"
	box_await "$name" box_ready 20 "the registry does not answer"
	say "$name is up after $(elapsed "$began") s; enter with: $LAB_HOME/lab shell $name"
}

elapsed() {
	local t=$(($(now_ms) - $1))
	printf '%d.%d\n' $((t / 1000)) $((t % 1000 / 100))
}

box_unpack() {
	local dir
	dir=$(lab_dir "$1")
	mkdir -p "$dir"
	touch "$(rootfs_dir)" # the age that rootfs_prune looks at
	cp -a --reflink=auto "$(rootfs_dir)/root" "$dir/root"
	echo "$1" >"$dir/root/etc/hostname"
	sed -i "1s/\$/ $1/" "$dir/root/etc/hosts"
	tr -d - </proc/sys/kernel/random/uuid >"$dir/root/etc/machine-id"
}

# box_start: the supervisor, in a session and control group of its own, with no tie to this terminal.
box_start() {
	local name=$1 dir group
	dir=$(lab_dir "$name")
	group=$(lab_cgroup "$name")
	mkdir -p "$group/init.scope"
	box_delegate "$(cgroup2_mount)"
	(
		exec 9>&- # the lock
		# The namespace's root must be the lab's group, and the group itself empty of processes.
		echo "$BASHPID" >"$group/cgroup.procs"
		# shellcheck disable=SC2016 # expanded by the inner shell
		exec setsid unshare --cgroup sh -c 'echo $$ >"$0" && exec "$@"' "$group/init.scope/cgroup.procs" \
			unshare --mount --net --pid --ipc --fork --mount-proc --propagation slave \
			bash "$LAB_HOME/lib/supervisor.sh" "$name" "$dir" </dev/null >>"$dir/console.log" 2>&1
	) &
	disown $!
}

# box_delegate gives the lab the controllers that this machine's unified hierarchy has; on a hybrid host there are none.
box_delegate() {
	local controller
	for controller in cpu memory pids io cpuset; do
		echo "+$controller" >"$1/cgroup.subtree_control" || true
	done 2>/dev/null
}

# box_exec NAME CMD...: CMD in the lab, in its control group, with a clean environment.
box_exec() (
	name=$1
	shift
	pid=$(box_pid "$name") || die "no lab called '$name' is running (see: lab list)"
	group=$(lab_cgroup "$name")/box/payload/lab-run
	# This fails only while the lab is going down.
	mkdir -p "$group" && echo "$BASHPID" >"$group/cgroup.procs" || exit 125
	exec nsenter -t "$pid" -m -u -i -n -p -C -r -w env -i \
		PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
		HOME=/root USER=root LANG=C.UTF-8 TERM="${TERM:-dumb}" "$@"
)

box_booted() {
	local state
	# "degraded" is for the caller to see: the units that failed are named there.
	state=$(box_exec "$1" systemctl is-system-running)
	[ "$state" = running ] || [ "$state" = degraded ]
}

box_ready() {
	box_booted "$1" &&
		box_exec "$1" curl -sf -o /dev/null -m 2 https://registry-1.docker.io/v2/ &&
		box_exec "$1" incus query /1.0/networks/incusbr0 >/dev/null
}

# box_await NAME CHECK SECONDS MESSAGE
box_await() { wait_for "$3" "$2" "$1" || box_broken "$1" "$4"; }

box_broken() {
	tail -20 "$(lab_dir "$1")/console.log" >&2
	box_exec "$1" systemctl --failed --no-legend --no-pager >&2 || true
	die "$1: $2 (its console is $(lab_dir "$1")/console.log; remove it with: lab down $1)"
}

lab_reboot() {
	local old began
	old=$(box_pid "$1") || die "no lab called '$1' is running (see: lab list)"
	began=$(now_ms)
	# The connection may end before the answer.
	box_exec "$1" systemctl reboot 2>/dev/null || true
	# Incus gives every instance its time to stop.
	wait_for 120 box_other "$1" "$old" || box_broken "$1" "it did not shut down within 120 s"
	box_await "$1" box_ready 60 "it did not come up again"
	say "$1 rebooted in $(elapsed "$began") s"
}

box_other() {
	local pid
	pid=$(box_pid "$1") && [ "$pid" != "$2" ]
}

lab_down() { with_lock "name-$1" box_remove "$1"; }

# box_remove leaves nothing of a lab, in whatever state it is; no error when there is none.
box_remove() {
	local name=$1 dir group
	dir=$(lab_dir "$name")
	group=$(lab_cgroup "$name")
	[ ! -d "$group" ] || box_kill "$name" "$group"
	[ -d "$dir" ] || return 0
	box_detach "$dir"
	rm -rf --one-file-system "$dir"
}

# box_kill ends every process of the control group and removes it.
box_kill() {
	local end=$(($(now_ms) + 20000))
	while ! cgroup_remove "$2"; do
		[ "$(now_ms)" -lt "$end" ] || die "$1: processes that do not die: $(cgroup_procs "$2")"
		if [ -e "$2/cgroup.kill" ]; then
			echo 1 >"$2/cgroup.kill"
		else
			cgroup_procs "$2" | xargs -r kill -KILL 2>/dev/null || true
		fi
		sleep 0.03
	done
}

cgroup_procs() { find "$1" -name cgroup.procs -exec cat {} + | tr '\n' ' '; }

cgroup_remove() {
	find "$1" -depth -type d -exec rmdir {} + 2>/dev/null
	[ ! -d "$1" ]
}

# box_detach frees what can still hold a lab's files: loop devices and, after a crash, mounts.
box_detach() {
	local loop inode mounts
	# The paths of backing files are the lab's, not this machine's; their inodes are ours.
	while read -r loop inode; do
		[ -z "$(find "$1" -xdev -inum "$inode" -print -quit)" ] || losetup -d "$loop"
	done < <(losetup --list --noheadings --output NAME,BACK-INO)
	mounts=$(awk -v d="$1/" 'index($5, d) == 1 { print $5 }' /proc/self/mountinfo | sort -r)
	[ -z "$mounts" ] || xargs -d '\n' umount -l <<<"$mounts"
}

lab_reset() {
	lab_down "$1"
	lab_up "$1"
}
