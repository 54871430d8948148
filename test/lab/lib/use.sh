# shellcheck shell=bash
# Working in a lab: commands, files, looking around. Sourced by lab.

# lab_run NAME -- CMD...
lab_run() {
	local name=$1
	[ $# -ge 3 ] && [ "$2" = -- ] || die "usage: lab run NAME -- CMD..."
	shift 2
	box_exec "$name" "$@"
}

lab_shell() {
	# shellcheck disable=SC2016 # expanded inside
	box_exec "$1" bash -c 'cd /root && exec bash -l'
}

# lab_put NAME SRC DST: a file is replaced in one rename and keeps its mode; a directory's content goes into DST.
lab_put() {
	[ $# = 3 ] || die "usage: lab put NAME SRC DST"
	[ -e "$2" ] || die "$2: no such file or directory"
	if [ -d "$2" ]; then
		# shellcheck disable=SC2016 # expanded inside
		tar -c --owner=0 --group=0 -C "$2" . | box_exec "$1" sh -c 'mkdir -p "$1" && tar -x -p -C "$1"' sh "$3"
		return
	fi
	# shellcheck disable=SC2016
	box_exec "$1" sh -eu -c '
		dst=$1
		if [ -d "$dst" ]; then dst=${dst%/}/$3; fi
		tmp=$(dirname "$dst")/.lab-put.$$
		cat >"$tmp"
		chmod "$2" "$tmp"
		mv "$tmp" "$dst"' sh "$3" "$(stat -Lc %a "$2")" "$(basename "$2")" <"$2"
}

lab_root() {
	[ -d "$(lab_dir "$1")/root" ] || die "there is no lab called '$1' (see: lab list)"
	echo "$(lab_dir "$1")/root"
}

lab_pid() { box_pid "$1" || die "no lab called '$1' is running (see: lab list)"; }

# lab_list also finds labs whose directory is gone; "lab down" removes those as well.
lab_list() {
	local name pid
	for name in $(lab_names | sort -u); do
		if pid=$(box_pid "$name"); then
			echo "$name running $pid $(lab_dir "$name")"
		else
			echo "$name dead - $(lab_dir "$name")"
		fi
	done
}

lab_names() {
	local dir
	for dir in "$LAB_STATE"/*/ "$(cgroup2_mount)"/ic-agent-lab-*/; do
		dir=${dir%/}
		[ ! -d "$dir" ] || echo "${dir##*/}"
	done | sed 's/^ic-agent-lab-//'
}
