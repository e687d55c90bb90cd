#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Boots a VM whose cgroups are version 2 with all controllers, and runs in it
# what needs these: the tests of cgroups, as root and as a user to whom a group
# has been delegated, and the example of docs/cgroups.md. No KVM is needed: the
# machine is emulated, and so its system calls take 10 to 20 times as long.
#
#     tests/vm/run.sh [-v] [-c COMMAND] [TEST]...    -v shows the kernel's messages
#
# -c runs a command of the VM's shell instead. What this needs is brought by
# tests/vm/deps.sh; where that is not possible this counts one skipped test.

set -uo pipefail
cd "$(dirname "$0")/../.." || exit

BUILD=${BUILD:-build}
CC=${CC:-cc}
LIMIT=${LIMIT:-900} # seconds for all of it
SCALE=4             # of the tests' patience

verbose=no command=
while getopts vc: option; do
	case $option in
	v) verbose=yes ;;
	c) command=$OPTARG ;;
	*) exit 2 ;;
	esac
done
shift $((OPTIND - 1))

skip() {
	echo "skip vm: $*"
	echo "0 passed, 0 failed, 1 skipped"
	exit 0
}

broken() {
	echo "FAIL vm: $*"
	echo "0 passed, 1 failed, 0 skipped"
	exit 1
}

[[ $(uname -sm) == "Linux x86_64" ]] || skip "it is for Linux on x86_64"
files=$BUILD/vm/files
has_all() {
	command -v qemu-system-x86_64 >/dev/null && [[ -e $files/vmlinuz ]]
}
if ! has_all; then
	missing=$(tests/vm/deps.sh 2>&1)
	has_all || skip "$(tail -n 1 <<<"$missing")"
fi
[[ -x $BUILD/tests/test_cgroup ]] || broken "no $BUILD/tests/test_cgroup: make tests"

work=$(mktemp -d)
qemu=
cleanup() {
	[[ -z $qemu ]] || kill "$qemu" 2>/dev/null
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# --- what is in it ---------------------------------------------------------

root=$work/root
mkdir -p "$root"/{bin,dev,etc,lib,proc,sys,tmp,vm/tests}
cp "$files/busybox" "$root/bin/busybox"
ln -s busybox "$root/bin/sh"
cp tests/vm/init "$root/init"
chmod 755 "$root/init"
[[ ! -e $files/brd.ko ]] || cp "$files/brd.ko" "$root/brd.ko"
printf 'root:x:0:0::/:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\nuser:x:1000:\n' >"$root/etc/group"
cp "$BUILD"/tests/{test_cgroup,testprog,hostile} "$root/vm/tests"
cp "$BUILD"/{libnetrunner.so,netrunner-shepherd,nrun} "$root/vm"
cp tests/vm/nrun "$root/vm/run-nrun"
ln -s libnetrunner.so "$root/vm/libnetrunner.so.0"

# The example of the documentation, as its reader would compile it, what it is
# said to print, and the commands that set it all up.
tests/blocks.sh docs/cgroups.md c 1 >"$work/example.c"
tests/blocks.sh docs/cgroups.md text 1 >"$root/vm/expected"
tests/blocks.sh docs/cgroups.md sh 1 >"$root/vm/look"
tests/blocks.sh docs/cgroups.md sh 2 | sed 's/alice/user/g' >"$root/vm/delegate"
"$CC" -std=c11 -Wall -Wextra -Werror -I include "$work/example.c" -L "$BUILD" -lnetrunner \
	-Wl,-rpath,/vm -o "$root/vm/example" || broken "the example of docs/cgroups.md does not compile"

# The shared libraries of both, where they are looked for.
ldd "$BUILD/tests/test_cgroup" "$BUILD/libnetrunner.so" | grep -oE '/[^ ]+' | grep -v ':$' |
	grep -v netrunner | sort -u | while read -r library; do
	mkdir -p "$root/$(dirname "$library")"
	cp -L "$library" "$root/$library"
done

quoted() {
	local word
	for word; do
		printf "'%s' " "${word//\'/\'\\\'\'}"
	done
}

{
	echo "export NR_TEST_SCALE=$SCALE"
	echo "tests=\"$(quoted "$@")\""
	if [[ -n $command ]]; then
		printf '%s\n' "$command"
	else
		cat tests/vm/job
	fi
} >"$root/job"
(cd "$root" && find . | bin/busybox cpio -o -H newc) >"$work/initrd" 2>/dev/null || broken cpio

# --- the machine -----------------------------------------------------------

# cmpxchg16b as QEMU 7.2 emulates it crashes kernels.
timeout --kill-after=5 "$LIMIT" qemu-system-x86_64 \
	-M pc -accel tcg,thread=multi -cpu max,-cx16 -smp 2 -m 512 \
	-nodefaults -no-user-config -no-reboot -display none -nic none \
	-kernel "$files/vmlinuz" -initrd "$work/initrd" \
	-append "console=ttyS0 quiet loglevel=4 panic=-1 oops=panic mitigations=off random.trust_cpu=on cgroup_no_v1=all psi=1" \
	-serial "file:$work/console" -serial "file:$work/output" \
	</dev/null >"$work/qemu" 2>&1 &
qemu=$!
: >"$work/output"
tail -s 0.2 -n +1 -f --pid="$qemu" "$work/output" 2>/dev/null | sed -u 's/\r$//'
wait "$qemu"
status=$?
qemu=

[[ $verbose == no ]] || tr -d '\r' <"$work/console"
tr -d '\r' <"$work/output" >"$work/log"
if ! grep -q '^vm: done$' "$work/log"; then
	echo "FAIL vm: it has not come to its end; qemu's exit status is $status (124: not within $LIMIT s)"
	tail -n 20 "$work/qemu"
	tr -d '\r' <"$work/console" | tail -n 30
	stopped=1
fi
awk -v failed="${stopped:-0}" '
	/^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$/ { passed += $1; failed += $3; skipped += $5 }
	END {
		printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped
		exit failed > 0 || passed == 0
	}' "$work/log"
