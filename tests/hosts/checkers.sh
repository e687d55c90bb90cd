#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Hosts under valgrind and the sanitizers: nothing is said of the library, and
# what is wrong in the host is still found. With the flags of docs/hosting.md.

# check() calls the functions, which shellcheck does not see.
# shellcheck disable=SC2317

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh disable=SC1091
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

link() {
	"$CC" -g -O1 -Wall -Wextra -I "$ROOT/include" "$HOSTS/checked_host.c" -o "$1" "${@:2}" \
		-L "$LIB" -lnetrunner -lpthread "-Wl,-rpath,$LIB"
}

clean() {
	t "$@"
}

# finds TEXT COMMAND...: it fails, and says why.
finds() {
	local text=$1
	shift
	if t "$@" >"$WORK/found" 2>&1; then
		echo "it has found nothing"
	fi
	cat "$WORK/found"
	grep -q "$text" "$WORK/found"
}

# The sanitizers of older compilers know no address space as random as today's.
sanitized() {
	link "$WORK/$1" "-fsanitize=$1" 2>"$WORK/log" || return
	setarch -R true 2>/dev/null && run=(setarch -R) || run=()
}
run=()
export ASAN_OPTIONS=detect_leaks=1:handle_segv=0 TSAN_OPTIONS=halt_on_error=0

if sanitized thread; then
	check "ThreadSanitizer" clean "${run[@]}" "$WORK/thread"
	check "ThreadSanitizer finds a race" finds "data race.*in run_programs" "${run[@]}" "$WORK/thread" race
	check "ThreadSanitizer, killed" dies_with_all "${run[@]}" "$WORK/thread" kill
else
	skip ThreadSanitizer "$(tail -n 1 "$WORK/log")"
fi
if sanitized address; then
	check "AddressSanitizer" clean "${run[@]}" "$WORK/address"
	check "AddressSanitizer, killed" dies_with_all "${run[@]}" "$WORK/address" kill
else
	skip AddressSanitizer "$(tail -n 1 "$WORK/log")"
fi

need valgrind valgrind
valgrind=(valgrind -q --error-exitcode=9 --leak-check=full --child-silent-after-fork=yes
	"--suppressions=$HOSTS/netrunner.supp")
if ! link "$WORK/host" || ! valgrind -q true >"$WORK/log" 2>&1; then
	# It needs symbols of the dynamic linker, which some systems have in a package of their own.
	skip valgrind "$(tail -n 1 "$WORK/log")"
	finish
fi
check "valgrind" clean "${valgrind[@]}" "$WORK/host"
check "valgrind finds what is read beyond an end" finds "pwritev2.*unaddressable" "${valgrind[@]}" "$WORK/host" memory
check "valgrind, killed" dies_with_all "${valgrind[@]}" "$WORK/host" kill

finish
