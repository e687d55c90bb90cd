#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Brings what the tests in the VM need: an emulator, which is installed, and a
# kernel and a static busybox, which are only unpacked into $BUILD/vm. What can't
# be had is told and is no error: tests/vm/run.sh skips then, and says why.

set -uo pipefail
cd "$(dirname "$0")/../.." || exit

BUILD=${BUILD:-build}

cannot() {
	echo "$*"
	exit 0
}

# apt-get, but never for long: neither for a slow mirror nor for another's lock.
apt() {
	DEBIAN_FRONTEND=noninteractive timeout --kill-after=10 200 apt-get -q \
		-o DPkg::Lock::Timeout=120 -o Acquire::http::Timeout=60 "$@" </dev/null
}

# Once, and only if something can't be had without it.
updated=no
update() {
	[[ $updated == no && $(id -u) == 0 ]] || return
	updated=yes
	apt update
}

# The package of kernels without a version depends on the newest one.
image() {
	apt-cache depends linux-image-cloud-amd64 2>/dev/null |
		awk '$1 == "Depends:" && $2 ~ /^linux-image-[0-9]/ { print $2; exit }'
}

# unpack PACKAGE: into $work/files
unpack() {
	download "$1" || { update && download "$1"; } || cannot "apt-get can't download $1"
	dpkg-deb -x "$work"/"$1"_*.deb "$work/files" || cannot "$1 can't be unpacked"
}

download() {
	(cd "$work" && apt download "$1")
}

[[ $(uname -sm) == "Linux x86_64" ]] || cannot "it is for Linux on x86_64"
if command -v qemu-system-x86_64 >/dev/null && [[ -e $BUILD/vm/files/vmlinuz ]]; then
	exit 0
fi
command -v apt-get >/dev/null || cannot "only apt-get is known to have what it needs"

if ! command -v qemu-system-x86_64 >/dev/null; then
	[[ $(id -u) == 0 ]] || cannot "only root can install qemu-system-x86"
	update
	apt install -y --no-install-recommends qemu-system-x86 ||
		cannot "apt-get can't install qemu-system-x86"
fi
[[ ! -e $BUILD/vm/files/vmlinuz ]] || exit 0

mkdir -p "$BUILD/vm" || exit
work=$(mktemp -d "$BUILD/vm/new.XXXXXX") || exit
trap 'rm -rf "$work"' EXIT
kernel=$(image)
[[ -n $kernel ]] || { update && kernel=$(image); }
[[ -n $kernel ]] || cannot "apt-get knows no linux-image-cloud-amd64"
unpack "$kernel"
unpack busybox-static
mkdir "$work/vm"
cp "$work"/files/boot/vmlinuz-* "$work/vm/vmlinuz" || cannot "$kernel has no kernel"
cp "$work/files/bin/busybox" "$work/vm/busybox" || cannot "busybox-static has no busybox"
# A disk in memory, for the io controller to have a device.
find "$work/files" -name 'brd.ko*' -exec cp {} "$work/vm" \;
[[ ! -e $work/vm/brd.ko.xz ]] || "$work/vm/busybox" unxz "$work/vm/brd.ko.xz"
rm -rf "$BUILD/vm/files"
mv "$work/vm" "$BUILD/vm/files"
