#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The C tests on arm64: library, shepherd and tests are built by a cross compiler,
# and run in a VM with a kernel of Debian. (qemu-user can't do it: a clone(2) in
# the same memory that makes no thread, as programs are started by, is EINVAL.)
#
#     tests/vm/arm64.sh [-a] [-c COMMAND] [SUITE...]
#
# -a runs all tests, which takes a quarter of an hour or more: the machine is
# emulated. By default it is a choice from each suite. -c runs a command of the
# VM's shell instead.

# check() calls the functions, which shellcheck does not see.
# shellcheck disable=SC2317

set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source-path=SCRIPTDIR source=../hosts/lib.sh disable=SC1091
. tests/hosts/lib.sh

all=no command=
while getopts ac: option; do
	case $option in
	a) all=yes ;;
	c) command=$OPTARG ;;
	*) exit 2 ;;
	esac
done
shift $((OPTIND - 1))

[[ $(uname -s) == Linux ]] || give_up "it is for Linux"
need aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu libc6-dev-arm64-cross
need qemu-system-aarch64 qemu-system-arm
need cpio cpio
libc=/usr/aarch64-linux-gnu/lib
[[ -e $libc/libc.so.6 ]] || give_up "no $libc/libc.so.6"

# --- the kernel, from a list of packages that the system does not see ------

target=$BUILD/arm64
files=$target/vm
foreign=(-o APT::Architecture=arm64 -o APT::Architectures=arm64 -o "Dir::State::lists=$WORK/lists"
	-o "Dir::Cache=$WORK/cache" -o Dir::State::status=/dev/null -o APT::Sandbox::User=root)

unpack_kernel() {
	local kernel
	mkdir -p "$WORK"/{lists,cache/archives}/partial "$WORK/unpacked"
	apt "${foreign[@]}" update || return
	kernel=$(apt-cache "${foreign[@]}" depends linux-image-cloud-arm64 |
		awk '$1 == "Depends:" && $2 ~ /^linux-image-[0-9]/ { print $2; exit }')
	(cd "$WORK" && apt "${foreign[@]}" download "${kernel:?}" busybox-static) || return
	for package in "$WORK"/*.deb; do
		dpkg-deb -x "$package" "$WORK/unpacked" || return
	done
	mkdir -p "$WORK/vm" "$target"
	cp "$WORK"/unpacked/boot/vmlinuz-* "$WORK/vm/vmlinuz" || return
	cp "$WORK/unpacked/bin/busybox" "$WORK/vm" || return
	rm -rf "$files"
	mv "$WORK/vm" "$files"
}
if [[ ! -e $files/vmlinuz ]]; then
	command -v apt-get >/dev/null || give_up "only apt-get is known to have a kernel"
	unpack_kernel >"$WORK/apt" 2>&1 || give_up "no kernel for arm64: $(tail -n 1 "$WORK/apt")"
fi

# --- what is in it ---------------------------------------------------------

suites=()
for source in tests/c/test_*.c; do
	suites+=("$(basename "$source" .c)")
done
build() {
	GOARCH=arm64 make -s CC=aarch64-linux-gnu-gcc AR=aarch64-linux-gnu-ar \
		OBJCOPY=aarch64-linux-gnu-objcopy BUILD="$target" all \
		"${suites[@]/#/$target/tests/}" "$target"/tests/{testprog,hostile}
}
check "it is built" build
[[ $failed == 0 ]] || finish

root=$WORK/root
mkdir -p "$root"/{bin,dev,etc,lib,proc,sys,tmp,usr,vm/tests}
cp "$files/busybox" "$root/bin/busybox"
ln -s busybox "$root/bin/sh"
cp tests/vm/init "$root/init"
chmod 755 "$root/init"
printf 'root:x:0:0::/:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\nuser:x:1000:\n' >"$root/etc/group"
cp "$target"/tests/* "$root/vm/tests"
cp "$target"/{libnetrunner.so,netrunner-shepherd} "$root/vm"
ln -s libnetrunner.so "$root/vm/libnetrunner.so.0"
cp -L $libc/{ld-linux-aarch64.so.1,libc.so.6} "$root/lib"

# What differs by machine: how programs are started (system calls, assembly),
# signals and stacks of the Go runtime, structs of the kernel.
chosen() {
	case $1 in
	test_cgroup) echo "'*_fresh_group_*' 'files_*'" ;;
	test_containment) echo "lost_tree_dies_with_the_only_program program_in_a_pid_namespace_sees_only_that signals_and_ends_in_a_pid_namespace" ;;
	test_guest_fork) echo workers_have_libraries_of_their_own ;;
	test_guest_signals) echo handlers_never_run_on_a_stack_of_go ;;
	test_guest_state) echo "each_function_works_as_the_first_call 'three_*' hosts_own_writes_raise_sigpipe" ;;
	test_guest_threads) echo small_stacks_suffice ;;
	test_host) echo "forked_child_may_exit host_keeps_its_state host_survives_a_storm_of_signals killed_shepherd_is_eownerdead" ;;
	test_identity) ;; # all of it
	test_guest_load | test_misuse) return 1 ;;
	test_lifecycle) echo "'kill_*' 'stop_*' 'wait_*'" ;;
	test_pty) echo "'control_*' 'close_stdin_*' 'window_*' '*_beside_the_terminal'" ;;
	test_spawn) echo "'exec_*' 'arguments_*' 'environment_*' 'file_*'" ;;
	test_stdio) ;;
	test_streams) echo "'limit_*' loop_with_a_little 'row_*'" ;;
	*) echo nothing_is_chosen_of_it ;; # which fails
	esac
}

{
	echo "export NR_TEST_SCALE=4"
	if [[ -n $command ]]; then
		printf '%s\n' "$command"
	else
		for suite in "${suites[@]}"; do
			[[ $# == 0 || " $* " == *" $suite "* ]] || continue
			names=
			[[ $all == yes || $# != 0 ]] || names=$(chosen "$suite") || continue
			cat <<-END
				echo "== $suite"
				timeout -k 10 900 /vm/tests/$suite $names
				status=\$?; [ \$status -le 1 ] || echo "exit status \$status"
			END
		done
	fi
} >"$root/job"
(cd "$root" && find . | cpio --quiet -o -H newc) >"$WORK/initrd"

# --- the machine -----------------------------------------------------------

limit=600
[[ $all == no ]] || limit=3600
qemu=
# shellcheck disable=SC2317
stop() {
	[[ -z $qemu ]] || kill "$qemu" 2>/dev/null || :
}
trap 'stop; cleanup' EXIT
: >"$WORK/serial"
timeout --kill-after=5 $limit qemu-system-aarch64 -M virt -cpu max,pauth-impdef=on \
	-accel tcg,thread=multi -smp 2 -m 512 -nodefaults -no-reboot -display none -nic none \
	-kernel "$files/vmlinuz" -initrd "$WORK/initrd" \
	-append "output=/dev/ttyAMA0 console=ttyAMA0 quiet loglevel=3 panic=-1 oops=panic mitigations=off random.trust_cpu=on cgroup_no_v1=all psi=1" \
	-serial "file:$WORK/serial" </dev/null >"$WORK/qemu" 2>&1 &
qemu=$!
tail -s 0.2 -n +1 -f --pid="$qemu" "$WORK/serial" | sed -u 's/\r$//'
wait "$qemu" || cat "$WORK/qemu"
qemu=
tr -d '\r' <"$WORK/serial" >"$WORK/output"
if ! grep -q '^vm: done$' "$WORK/output"; then
	fail "the VM" "it has not come to its end within $limit s"
fi
while read -r p _ f _ s _; do
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
done < <(grep -E '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' "$WORK/output")
while read -r bad; do
	fail "a suite" "$bad"
done < <(grep -E '^exit status ' "$WORK/output")

finish
