#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# make release: twice, of one commit, in different places and surroundings, and
# with nothing that was compiled before; it is the same to the last byte. And it
# works.

# check() calls the functions, which shellcheck does not see.
# shellcheck disable=SC2317

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh disable=SC1091
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

version=$(sed -n 's/^#define NR_VERSION_\(MAJOR\|MINOR\|PATCH\) //p' "$ROOT/include/netrunner.h" | paste -sd.)
package=libnetrunner-$version
native=$(go env GOHOSTARCH)

# Without what a make that runs us has exported. Go's own caches are elsewhere
# than $HOME then, where it is not to be found by accident.
release() {
	local directory=$1
	shift
	git clone -q "$ROOT" "$directory"
	env -u MAKEFLAGS -u MAKELEVEL -u BUILD -u SOURCE_DATE_EPOCH GOMODCACHE="$(go env GOMODCACHE)" "$@" \
		make -C "$directory" --no-print-directory release all
}

first() {
	release "$WORK/one"
	(cd "$WORK/one/build/release" && sha256sum -c SHA256SUMS)
}

# The time of the files, the order in directories, the user's language, time
# zone and permissions: none of it may be seen.
again() {
	local file count=0
	umask 077
	release "$WORK/a directory with another name" ARCHITECTURES="$native" GOCACHE="$WORK/cache" \
		TZ=Asia/Tokyo LC_ALL=C HOME="$WORK" LOGNAME=somebody
	cd "$WORK/a directory with another name/build"
	for file in libnetrunner.so netrunner-shepherd nrun release/*.tar.gz release/*.json; do
		cmp "$file" "$WORK/one/build/$file"
		count=$((count + 1))
	done
	equal "$count" 6 "the number of files"
}

unpack() {
	rm -rf "$WORK/unpacked"
	mkdir "$WORK/unpacked"
	tar -C "$WORK/unpacked" -xzf "$WORK/one/build/release/$1.tar.gz"
	equal "$(ls "$WORK/unpacked")" "$1" "what it unpacks to"
}

sources() {
	unpack "$package"
	(cd "$WORK/unpacked/$package" && find . ! -type d | sed 's|^\./||' | sort) >"$WORK/got"
	git -C "$WORK/one" ls-files | sort | diff - "$WORK/got"
}

binaries() {
	local tree=$WORK/unpacked/$package-linux-$native flags
	unpack "$package-linux-$native"
	equal "$(cd / && echo x | t "$tree/bin/nrun" tr x y)" y output
	awk '/^```c$/ { inside = 1; next } /^```$/ { inside = 0 } inside' "$tree/README.md" >"$WORK/hello.c"
	if command -v pkg-config >/dev/null; then
		flags=$(PKG_CONFIG_PATH=$tree/lib/pkgconfig pkg-config --cflags --libs netrunner)
	else
		flags="-I$tree/include -L$tree/lib -lnetrunner"
	fi
	# shellcheck disable=SC2086 # they are several
	"$CC" "$WORK/hello.c" $flags -Wl,-rpath,"$tree/lib" -o "$WORK/hello"
	equal "$(t "$WORK/hello")" "HELLO, WORLD" output
	# Nobody who installs it needs what it was built with.
	if grep -rqF "$WORK" "$tree"; then
		echo "it says where it was built"
		return 1
	fi
	equal "$(tar --numeric-owner -tvzf "$WORK/one/build/release/$package-linux-$native.tar.gz" |
		awk '{ print $2 }' | sort -u)" 0/0 "who owns the files"
}

other_machine() {
	unpack "$package-linux-$1"
	local file tree=$WORK/unpacked/$package-linux-$1
	test -e "$tree/lib/libnetrunner.a"
	for file in bin/nrun lib/libnetrunner.so libexec/netrunner/netrunner-shepherd; do
		readelf -hW "$tree/$file" | grep -E "^ *Machine: *$2"
	done
}

contents() {
	go version -m "$BUILD/netrunner-shepherd" | awk '$1 == "dep" { print $2 "@" $3 }' | sort >"$WORK/deps"
	test -s "$WORK/deps"
	python3 - "$WORK/one/build/release/$package.cdx.json" "$version" "$(go env GOVERSION)" <<-'END' >"$WORK/got"
		import json, sys
		bom = json.load(open(sys.argv[1]))
		assert bom["bomFormat"] == "CycloneDX" and bom["specVersion"] == "1.5"
		assert bom["metadata"]["component"]["version"] == sys.argv[2]
		refs = [c["bom-ref"] for c in bom["components"]]
		assert len(set(refs)) == len(refs)
		assert all(c["licenses"] for c in bom["components"])
		uses = {d["ref"]: d["dependsOn"] for d in bom["dependencies"]}
		assert set(uses) == {*refs, "libnetrunner"}
		assert uses["libnetrunner"] == ["libnetrunner.so", "netrunner-shepherd", "nrun"]
		assert uses["nrun"] == [] and "pkg:golang/std@" + sys.argv[3][2:] in uses["libnetrunner.so"]
		for ref in uses["netrunner-shepherd"]:
		    if not ref.startswith("pkg:golang/std@"):
		        print(ref.removeprefix("pkg:golang/"))
	END
	diff "$WORK/deps" "$WORK/got"
}

if ! git -C "$ROOT" rev-parse HEAD >/dev/null 2>&1; then
	skip "make release" "not a git repository"
	finish
fi
check "make release" first
check "make release: the same bytes again, built from nothing" again
check "make release: the sources" sources
check "make release: the binaries work" binaries
for other in amd64:X86-64 arm64:AArch64; do
	if [[ ${other%:*} == "$native" ]]; then
		continue
	elif [[ -e $WORK/one/build/release/$package-linux-${other%:*}.tar.gz ]]; then
		check "make release: the binaries for ${other%:*}" other_machine "${other%:*}" "${other#*:}"
	else
		skip "make release: the binaries for ${other%:*}" "no compiler for it"
	fi
done
check "make release: what is in the binaries" contents

finish
