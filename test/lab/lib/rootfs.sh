# shellcheck shell=bash
# The root filesystem of a lab, built once per recipe and kept. Sourced by lab.
#
# $LAB_CACHE/KEY/root is the tree that every lab is a copy of, $LAB_CACHE/KEY/versions says what is in it.
# KEY is a hash of the recipe: this file, the directory rootfs/, the architecture.

rootfs_key() {
	{
		dpkg --print-architecture
		cd "$LAB_HOME"
		find lib/rootfs.sh rootfs -type f -print0 | sort -z | xargs -0 sha256sum
		find rootfs -type f -perm -u+x | sort
	} | sha256sum | cut -c1-16
}

rootfs_dir() { echo "$LAB_CACHE/$(rootfs_key)"; }

lab_rootfs() {
	need_host
	rootfs_ensure
	echo "$(rootfs_dir)/root"
}

# rootfs_ensure: builds the tree unless it is there. Two callers build once.
rootfs_ensure() {
	[ -e "$(rootfs_dir)/versions" ] || with_lock rootfs rootfs_make
}

rootfs_make() {
	local dir tmp mirror keyring status
	dir=$(rootfs_dir)
	[ ! -e "$dir/versions" ] || return 0
	mkdir -p "$LAB_CACHE"
	rootfs_prune
	need_trixie_keys
	mirror=$(debian_mirror)
	keyring=$(debian_keyring)
	say "building the root filesystem of the lab (once per recipe)"
	tmp=$(mktemp -d "$LAB_CACHE/build.XXXXXX")
	set +e
	(
		set -e
		rootfs_build "$tmp/root" "$mirror" "$keyring" 3>&2 >"$tmp/log" 2>&1
	)
	status=$?
	set -e
	if [ $status != 0 ]; then
		tail -40 "$tmp/log" >&2
		rm -rf --one-file-system "$tmp"
		die "the root filesystem could not be built (the end of its log is above)"
	fi
	chroot "$tmp/root" dpkg-query -W >"$tmp/versions"
	mv -T "$tmp" "$dir"
}

# rootfs_prune: the rest of builds that died, and other recipes' trees that no lab was made from for an hour.
rootfs_prune() {
	rm -rf --one-file-system "$LAB_CACHE"/build.*
	find "$LAB_CACHE" -mindepth 1 -maxdepth 1 -type d -mmin +60 -exec rm -rf --one-file-system {} +
}

# rootfs_build ROOT MIRROR KEYRING: needs errexit. Its output is a log; the steps go to descriptor 3.
rootfs_build() {
	step_begin
	rootfs_unpack "$@"
	step_done "Debian and Incus installed" 2>&3
	rootfs_configure "$1"
	rootfs_images "$1"
	step_done "images built" 2>&3
}

rootfs_unpack() {
	local root=$1 mirror=$2 keyring=$3 option options=()
	while read -r option; do
		options+=("--aptopt=$option")
	done < <(apt-config dump | grep -E '^Acquire::(http|https)::(Proxy|Verify|CaInfo)[ :]')
	mmdebstrap --mode=root --variant=apt --format=directory --skip=check/qemu \
		--aptopt='Acquire::Check-Valid-Until "false"' --aptopt='Acquire::Languages "none"' "${options[@]}" \
		--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/lib/cni/*' \
		--include="$(word_list "$LAB_HOME/rootfs/packages")" \
		--customize-hook="sh '$LAB_HOME/rootfs/fetch-software' \"\$1\" $(word_list "$LAB_HOME/rootfs/software")" \
		trixie "$root" \
		"deb [signed-by=$keyring] $mirror trixie main" \
		"deb [signed-by=$keyring] $mirror trixie-backports main" \
		3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&- # Its pipes have to have numbers of one digit, for dash.
}

# word_list FILE: its words with commas between, without comments.
word_list() { sed 's/#.*//' "$1" | tr -s ' \n' '\n\n' | grep . | paste -sd, -; }

rootfs_configure() {
	local root=$1
	rm -rf "$root"/etc/apt/sources.list "$root"/etc/apt/sources.list.d/* "$root"/etc/apt/apt.conf.d/99mmdebstrap
	cp -rT --no-preserve=ownership "$LAB_HOME/rootfs/overlay" "$root"
	chroot "$root" /bin/sh /usr/local/lib/lab/setup
}

# rootfs_images runs the registry and the image scripts in the tree, without any network.
rootfs_images() {
	local root=$1
	unshare --mount --net --pid --ipc --fork --kill-child \
		sh -c 'set -e; ip link set lo up; mount -t proc proc "$1/proc"; mount --bind /dev "$1/dev"; exec chroot "$1" /usr/local/lib/lab/build-images' \
		sh "$root"
	rm -rf "$root/var/lib/lab/software"
}
