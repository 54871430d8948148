#!/bin/bash
# supervisor.sh NAME DIR: boots the lab in DIR/root, and again when it reboots. Started by box_start as the first process of
# new mount, network and process id namespaces, in the group init.scope of a new control group namespace. When it ends, the
# kernel ends all that is in them.
set -euo pipefail

prepare() {
	umount -R /sys/fs/cgroup
	mount -t cgroup2 cgroup2 /sys/fs/cgroup
	for controller in cpu memory pids io cpuset; do
		echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control || true
	done 2>/dev/null
	mkdir -p /sys/fs/cgroup/box
	# systemd-nspawn keeps locks and sockets in /run: not this machine's.
	mount -t tmpfs -o mode=0755 tmpfs /run
	ip link set lo up
}

# boot NAME DIR: returns systemd-nspawn's exit status.
boot() {
	(
		echo "$BASHPID" >/sys/fs/cgroup/box/cgroup.procs
		# Else /sys is read-only and bridges stay half made.
		export SYSTEMD_NSPAWN_API_VFS_WRITABLE=1
		exec systemd-nspawn --boot --directory="$2/root" --machine="$1" --hostname="$1" --register=no --keep-unit \
			--capability=all --private-network --resolv-conf=off --timezone=off --link-journal=no \
			--bind=/dev/fuse --bind=/dev/net/tun \
			--system-call-filter='@known add_key keyctl bpf perf_event_open'
	)
}

main() {
	local status=133
	prepare
	# 133 is how systemd-nspawn --keep-unit says "reboot".
	while [ $status = 133 ]; do
		status=0
		boot "$@" || status=$?
	done
	exit $status
}

main "$@"
