# shellcheck shell=bash
# What a lab needs from the machine it runs on. Sourced by lab.

# Command and the Debian package that brings it.
HOST_TOOLS=(
	mmdebstrap:mmdebstrap
	systemd-nspawn:systemd-container
	newuidmap:uidmap
	dpkg-deb:dpkg
	nsenter:util-linux
	unshare:util-linux
	flock:util-linux
	setsid:util-linux
	ip:iproute2
	modprobe:kmod
	pgrep:procps
)

# lab_obstacle: why no lab can be made here, in one line; nothing when one can.
lab_obstacle() {
	[ "$(id -u)" = 0 ] || {
		echo "not root (the lab boots a systemd in namespaces of its own)"
		return
	}
	command -v unshare >/dev/null || {
		echo "the unshare command is missing (package util-linux)"
		return
	}
	unshare --mount --net --cgroup --pid --ipc --uts --fork true 2>/dev/null || {
		echo "namespaces cannot be made here (a container without privileges?)"
		return
	}
	unshare --mount sh -c 'mount -t tmpfs none /mnt && mount -t proc none /mnt' 2>/dev/null || {
		echo "filesystems cannot be mounted here, even in a mount namespace"
		return
	}
	[ -n "$(cgroup2_mount)" ] || {
		echo "no cgroup2 filesystem is mounted (the kernel must offer the unified hierarchy)"
		return
	}
	[ -n "$(missing_packages)" ] || return 0
	command -v apt-get >/dev/null ||
		echo "missing: $(missing_packages)(and there is no apt-get here to install it)"
}

lab_check() {
	local why
	why=$(lab_obstacle)
	if [ -n "$why" ]; then
		echo "no lab can be made here: $why"
		return 1
	fi
	echo "a lab can be made here"
}

# need_host: everything that up and rootfs need, or a message and the end.
need_host() {
	local why missing
	why=$(lab_obstacle)
	[ -z "$why" ] || die "no lab can be made here: $why"
	missing=$(missing_packages)
	[ -z "$missing" ] || install_packages "$missing"
}

missing_packages() {
	local pair missing=()
	for pair in "${HOST_TOOLS[@]}"; do
		command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
	done
	[ ${#missing[@]} -eq 0 ] || printf '%s\n' "${missing[@]}" | sort -u | tr '\n' ' '
}

install_packages() {
	local list
	read -ra list <<<"$1"
	say "installing ${list[*]}"
	apt_get update || die "apt-get update failed; the lab needs ${list[*]}"
	apt_get install "${list[@]}" || die "apt-get could not install ${list[*]}; install them by hand and try again"
}

apt_get() {
	local verb=$1 log
	shift
	log=$(mktemp)
	if ! DEBIAN_FRONTEND=noninteractive apt-get "$verb" -qq -y --no-install-recommends "$@" >"$log" 2>&1; then
		cat "$log" >&2
		rm -f "$log"
		return 1
	fi
	rm -f "$log"
}

# cgroup2_mount: where the unified hierarchy is mounted ("/sys/fs/cgroup/unified" on a hybrid host).
cgroup2_mount() {
	awk '{ for (i = 7; i < NF; i++) if ($i == "-" && $(i+1) == "cgroup2") { print $5; exit } }' /proc/self/mountinfo
}

# debian_mirror: the mirror this machine's own apt uses for Debian.
debian_mirror() {
	local uri
	if [ -n "${IC_LAB_MIRROR:-}" ]; then
		echo "$IC_LAB_MIRROR"
		return
	fi
	uri=$(mirror_of_apt)
	if [ -z "$uri" ]; then
		# Without package lists apt does not know what its sources are.
		apt_get update || true
		uri=$(mirror_of_apt)
	fi
	[ -n "$uri" ] || die "this machine's apt sources name no Debian mirror; set IC_LAB_MIRROR to one"
	# Cloud images name a file that lists mirrors.
	case $uri in
	mirror+file:*) uri=$(awk '/^[^#]/ { print $1; exit }' "${uri#mirror+file:}") ;;
	esac
	echo "$uri"
}

mirror_of_apt() {
	# shellcheck disable=SC2016 # the words in $() are apt's
	apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(LABEL) $(COMPONENT)' 'Created-By: Packages' 2>/dev/null |
		awk '$2 == "Debian" && $3 == "Debian" && $4 == "main" { print $1; exit }'
}

# need_trixie_keys: a Debian 12 keyring has them since its update 2023.3+deb12u2.
need_trixie_keys() {
	has_trixie_keys && return
	say "installing debian-archive-keyring (this machine's lacks the keys of Debian 13)"
	apt_get update && apt_get install debian-archive-keyring || true
	has_trixie_keys ||
		die "debian-archive-keyring lacks the keys of Debian 13 even after an update; the lab is built from signed packages only"
}

has_trixie_keys() { compgen -G '/usr/share/keyrings/debian-archive-trixie-stable.*' >/dev/null; }

debian_keyring() {
	local f
	for f in /usr/share/keyrings/debian-archive-keyring.{gpg,pgp}; do
		[ -e "$f" ] || continue
		echo "$f"
		return
	done
	die "package debian-archive-keyring brought no keyring"
}

# load_modules: the lab has no modules of its own; what is built in is no error.
load_modules() {
	modprobe -qa bridge veth tun fuse loop overlay nf_tables nft_chain_nat nft_masq nft_nat nft_redir nft_ct \
		nft_reject_inet br_netfilter ip_tables 2>/dev/null || true
}
