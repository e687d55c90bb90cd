#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Makes what a release consists of, in $BUILD/release/: the sources of HEAD;
# what is built from these, for each architecture that a compiler is here for;
# what is in that (CycloneDX); and the checksums of all. The same commit and the
# same compilers make the same bytes.
#
# Environment: BUILD (build), and ARCHITECTURES ("amd64 arm64").

set -euo pipefail
cd "$(dirname "$0")/.."

BUILD=${BUILD:-build}
out=$BUILD/release
# What a make that runs us was told is for that one's own work.
unset MAKEFLAGS MAKELEVEL MAKEOVERRIDES MFLAGS BUILD CC
umask 022

version=$(sed -n 's/^#define NR_VERSION_\(MAJOR\|MINOR\|PATCH\) //p' include/netrunner.h | paste -sd.)
name=libnetrunner-$version
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH

rm -rf "$out"
mkdir -p "$out"
out=$(cd "$out" && pwd)
work=$(mktemp -d "$out/work.XXXXXX")
trap 'rm -rf "$work"' EXIT

git archive --format=tar --prefix="$name/" HEAD | gzip -9n >"$out/$name.tar.gz"
tar -C "$work" -xzf "$out/$name.tar.gz"

# archive DIRECTORY: as a tar file of nobody's, in an order of its own.
archive() {
	tar -C "$work" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
		--format=gnu -cf - "$1" | gzip -9n >"$out/$1.tar.gz"
}

# binaries ARCHITECTURE PREFIX-OF-TOOLS
binaries() {
	local tree=$name-linux-$1 arguments
	arguments=(-C "$work/$name" --no-print-directory BUILD="build-$1" CFLAGS=-O2
		GOARCH="$1" CC="$2gcc" AR="$2ar" OBJCOPY="$2objcopy")
	make "${arguments[@]}" all static >"$work/log" 2>&1 || { cat "$work/log"; return 1; }
	make "${arguments[@]}" install DESTDIR="$work" PREFIX="/$tree" RELOCATABLE=yes >"$work/log" 2>&1 ||
		{ cat "$work/log"; return 1; }
	cp "$work/$name"/{README.md,CHANGELOG.md,LICENSE} "$work/$tree"
	archive "$tree"
}

built=()
for architecture in ${ARCHITECTURES:-amd64 arm64}; do
	case $architecture in
	amd64) machine=x86_64 ;;
	arm64) machine=aarch64 ;;
	*) echo "unknown architecture $architecture" >&2 && exit 1 ;;
	esac
	tools=$machine-linux-gnu-
	[[ $(uname -m) != "$machine" ]] || tools=
	if ! command -v "${tools}gcc" >/dev/null; then
		echo "left out: linux-$architecture, there is no ${tools}gcc"
		continue
	fi
	binaries "$architecture" "$tools"
	built+=("$architecture")
done
[[ ${#built[@]} -gt 0 ]] || { echo "there is no gcc" >&2; exit 1; }

binary=$work/$name/build-${built[0]}
packaging/sbom.py "$version" "$SOURCE_DATE_EPOCH" "$binary"/{libnetrunner.so,netrunner-shepherd,nrun} \
	>"$out/$name.cdx.json"
(cd "$out" && sha256sum -- *.tar.gz *.json >SHA256SUMS)
rm -rf "$work"
(cd "$out" && ls -l)
