#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Programs of musl libc: linked with the library or the archive, and the error of
# those that load it by dlopen(3).

# check() calls the functions, which shellcheck does not see.
# shellcheck disable=SC2317

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh disable=SC1091
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source-path=SCRIPTDIR source=archive.sh disable=SC1091
. "$HOSTS/archive.sh"

need musl-gcc musl-tools
use_archive musl-gcc "$BUILD/musl"
make -s -C "$ROOT" CC=musl-gcc BUILD="$BUILD/musl" all || give_up "no library of musl's"

cat >"$WORK/load.c" <<'END'
#include <dlfcn.h>
#include <stdio.h>
int main(int argc, char **argv)
{
	void *library = dlopen(argv[1], RTLD_NOW);
	const char *(*version)(void) = NULL;
	if (library)
		version = (const char *(*)(void))dlsym(library, "nr_version_string");
	puts(version ? version() : dlerror());
	return argc != 2 || !version;
}
END

# Should this ever succeed, docs/hosting.md has to be changed.
dlopen_fails() {
	link "$WORK/load.c" "$WORK/load"
	status 1 t "$WORK/load" "$BUILD/musl/libnetrunner.so" >"$WORK/output"
	cat "$WORK/output"
	grep -q "initial-exec TLS resolves to dynamic definition in $BUILD/musl/libnetrunner.so" "$WORK/output"
}

preloaded() {
	link "$WORK/load.c" "$WORK/load"
	t env LD_PRELOAD="$BUILD/musl/libnetrunner.so" "$WORK/load" "$BUILD/musl/libnetrunner.so"
}

check "only the functions of netrunner.h are visible" exports
for flags in -pie -no-pie -static -static-pie; do
	check "a program linked with $flags" hello "$flags"
done
check "the shepherd is found beside the program, or in ../libexec/netrunner" shepherd_is_found -static
check "the shepherd is found, without -static" shepherd_is_found -pie
check "dlopen fails, and says why" dlopen_fails
check "what has been preloaded can be opened" preloaded
suites -static lifecycle streams stdio pty identity host

libraries=(-L "$BUILD/musl" -lnetrunner "-Wl,-rpath,$BUILD/musl")
suites -pie lifecycle streams identity

finish
