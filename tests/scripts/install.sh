#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# make install, in the ways that there are to call it: what is installed is
# enough to build and run a host, C or Rust, and nrun; make uninstall leaves
# nothing of it.

# check() calls the functions, which shellcheck does not see.
# shellcheck disable=SC2317

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh disable=SC1091
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

version=$(sed -n 's/^#define NR_VERSION_\(MAJOR\|MINOR\|PATCH\) //p' "$ROOT/include/netrunner.h" | paste -sd.)

# Without what a make that runs us has exported.
make_() {
	env -u MAKEFLAGS -u MAKELEVEL make -C "$ROOT" --no-print-directory BUILD="$BUILD" "$@"
}

files() {
	(cd "$1" && find . ! -type d -printf '%P %M %l\n' | sort)
}

# The example of a manual or README, in $1: a program that says HELLO, WORLD.
example() {
	if [[ $1 == *.md ]]; then
		awk '/^```c$/ { inside = 1; next } /^```$/ { inside = 0 } inside' "$1"
	else
		awk '/^\.Bd -literal$/ { inside = 1; next } /^\.Ed$/ { inside = 0 } inside' "$1" | sed 's/\\e/\\/g'
	fi
}

# uses PKG_CONFIG_PATH LIBRARIES SOURCE [FLAG]...: compiles and runs it as its reader would.
uses() {
	local pkg_config_path=$1 libraries=$2 source=$3 flags
	shift 3
	flags=$(PKG_CONFIG_PATH=$pkg_config_path pkg-config "$@" --cflags --libs netrunner)
	echo "pkg-config: $flags"
	example "$source" >"$WORK/hello.c"
	# shellcheck disable=SC2086 # they are several
	"$CC" -Wall -Wextra -Werror "$WORK/hello.c" $flags -o "$WORK/hello"
	equal "$(LD_LIBRARY_PATH=$libraries t "$WORK/hello")" "HELLO, WORLD" output
}

installed_files() {
	local prefix=$WORK/prefix wanted
	make_ install PREFIX="$prefix"
	files "$prefix" | grep -v '^share/man/man3/nr_\|libnetrunner\.a ' >"$WORK/files"
	cat >"$WORK/wanted" <<-END
		bin/nrun -rwxr-xr-x
		include/netrunner.h -rw-r--r--
		lib/libnetrunner.so lrwxrwxrwx libnetrunner.so.0
		lib/libnetrunner.so.0 lrwxrwxrwx libnetrunner.so.$version
		lib/libnetrunner.so.$version -rwxr-xr-x
		lib/pkgconfig/netrunner.pc -rw-r--r--
		libexec/netrunner/netrunner-shepherd -rwxr-xr-x
		share/man/man1/nrun.1 -rw-r--r--
		share/man/man3/netrunner.3 -rw-r--r--
	END
	sed -i 's/ $//' "$WORK/files"
	diff -u "$WORK/wanted" "$WORK/files"
	equal "$(PKG_CONFIG_PATH=$prefix/lib/pkgconfig pkg-config --modversion netrunner)" "$version" "the version"
}

# Each function by its own name, and described.
function_manuals() {
	local name
	while read -r name; do
		test "$WORK/prefix/share/man/man3/$name.3" -ef "$WORK/prefix/share/man/man3/netrunner.3"
		grep -qE "^\.Fn $name " "$ROOT/man/netrunner.3" || {
			echo "netrunner.3 has no $name"
			return 1
		}
	done < <(grep -oE 'nr_[a-z_]+' "$ROOT/capi/exports.map")
}

use_from_prefix() {
	uses "$WORK/prefix/lib/pkgconfig" "$WORK/prefix/lib" "$1"
}

# Into the program, which finds the shepherd from where it is then.
static_from_prefix() {
	local flags
	make_ static install PREFIX="$WORK/static"
	flags=$(PKG_CONFIG_PATH=$WORK/static/lib/pkgconfig pkg-config --static --cflags --libs netrunner)
	example "$ROOT/README.md" >"$WORK/hello.c"
	# shellcheck disable=SC2086 # they are several
	"$CC" -static "$WORK/hello.c" $flags -o "$WORK/static/bin/hello"
	equal "$(t "$WORK/static/bin/hello")" "HELLO, WORLD" output
	make_ uninstall PREFIX="$WORK/static"
	equal "$(files "$WORK/static")" "bin/hello -rwxr-xr-x " "what is left"
}

nrun_from_prefix() {
	equal "$(cd / && echo x | t "$WORK/prefix/bin/nrun" tr x y)" y output
	readelf -dW "$WORK/prefix/bin/nrun" | grep -F 'libnetrunner.so.0'
}

# With the crate's own build script.
rust_finds_it() {
	local target=$WORK/target
	mkdir -p "$WORK/crate/src"
	cat >"$WORK/crate/Cargo.toml" <<-END
		[package]
		name = "installed"
		version = "0.0.0"
		edition = "2021"
		[dependencies]
		netrunner = { path = "$ROOT/bindings/rust/netrunner" }
		[workspace]
	END
	cat >"$WORK/crate/src/main.rs" <<-'END'
		fn main() {
		    let output = netrunner::Command::new("echo").arg("hello").output().unwrap();
		    print!("{}", String::from_utf8(output.stdout).unwrap());
		}
	END
	cp "$ROOT/bindings/rust/Cargo.lock" "$WORK/crate/" 2>/dev/null || :
	(
		cd "$WORK/crate"
		PKG_CONFIG_PATH=$WORK/prefix/lib/pkgconfig CARGO_TARGET_DIR=$target t cargo build --quiet
	)
	readelf -dW "$target/debug/installed" | grep -F 'libnetrunner.so.0'
	grep -rqF "$WORK/prefix/lib" "$target"/debug/build/netrunner-sys-*/output
	equal "$(LD_LIBRARY_PATH=$WORK/prefix/lib t "$target/debug/installed")" hello output
}

uninstalled() {
	make_ uninstall PREFIX="$WORK/prefix"
	equal "$(files "$WORK/prefix")" "" "what is left"
	equal "$(find "$WORK/prefix" -name netrunner)" "" "directories that are left"
}

# As packages are made: what is written is not where it will be.
destdir() {
	local dest=$WORK/dest root=$WORK/dest/usr
	make_ install DESTDIR="$dest" PREFIX=/usr LIBDIR=/usr/lib/x86_64-linux-gnu \
		INCLUDEDIR=/usr/include/netrunner MANDIR=/usr/man
	files "$dest"
	test -x "$root/lib/libexec/netrunner/netrunner-shepherd"
	test -e "$root/man/man1/nrun.1"
	# It does not say where it was made.
	if grep -rF "$dest" "$dest"; then
		return 1
	fi
	grep -x 'prefix=/usr' "$root/lib/x86_64-linux-gnu/pkgconfig/netrunner.pc"
	# shellcheck disable=SC2016 # it is pkg-config's
	grep -xF 'libdir=${prefix}/lib/x86_64-linux-gnu' "$root/lib/x86_64-linux-gnu/pkgconfig/netrunner.pc"
	uses "$root/lib/x86_64-linux-gnu/pkgconfig" "$root/lib/x86_64-linux-gnu" "$ROOT/README.md" \
		--define-variable=prefix="$root"
	# $LIB is this where there is multiarch.
	LD_LIBRARY_PATH=$root/lib/x86_64-linux-gnu t "$root/bin/nrun" true
	make_ uninstall DESTDIR="$dest" PREFIX=/usr LIBDIR=/usr/lib/x86_64-linux-gnu \
		INCLUDEDIR=/usr/include/netrunner MANDIR=/usr/man
	equal "$(files "$dest")" "" "what is left"
}

# A tree that is moved, as that of `make release`.
moved() {
	make_ install PREFIX="$WORK/here" RELOCATABLE=yes
	mv "$WORK/here" "$WORK/there"
	uses "$WORK/there/lib/pkgconfig" "$WORK/there/lib" "$ROOT/README.md"
	t "$WORK/there/bin/nrun" true
}

# Where the library does not look for it nothing should be put.
lost_shepherd() {
	status 2 make_ install PREFIX="$WORK/lost" LIBEXECDIR="$WORK/lost/elsewhere" 2>"$WORK/err"
	cat "$WORK/err"
	grep -q 'LIBEXECDIR: the library looks for the shepherd in' "$WORK/err"
	test ! -e "$WORK/lost"
	make_ install PREFIX="$WORK/lost" LIBEXECDIR="$WORK/lost/lib"
	uses "$WORK/lost/lib/pkgconfig" "$WORK/lost/lib" "$ROOT/README.md"
}

if ! command -v pkg-config >/dev/null; then
	skip "make install" "no pkg-config"
	finish
fi
check "make install: the files" installed_files
check "make install: a manual for each function" function_manuals
check "make install: the example of README.md" use_from_prefix "$ROOT/README.md"
check "make install: the example of netrunner(3)" use_from_prefix "$ROOT/man/netrunner.3"
check "make static install" static_from_prefix
check "make install: nrun" nrun_from_prefix
if command -v cargo >/dev/null; then
	check "make install: the crate finds it" rust_finds_it
else
	skip "make install: the crate finds it" "no cargo"
fi
check "make uninstall" uninstalled
check "make install DESTDIR= LIBDIR=" destdir
check "make install: a tree that is moved" moved
check "make install LIBEXECDIR=" lost_shepherd

finish
