#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# What `make demo` shows: nrun and two of the programs beside this script, from
# $BUILD (build/), at work on real input. Each step prints what it shows and what
# came out of it; the exit status is 0 if all came out right.

set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=$(cd "${BUILD:-$root/build}" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/netrunner-demo.XXXXXX")
steps=0
wrong=0

# A copy, so that the shepherds of this script can be told from others; and a
# mark, which all that is started here inherits, to find what is left of it.
lib=$work/lib
mkdir "$lib"
cp "$BUILD/libnetrunner.so" "$BUILD/netrunner-shepherd" "$BUILD/nrun" "$lib"
ln -s libnetrunner.so "$lib/libnetrunner.so.0"
unset NETRUNNER_SHEPHERD
export NR_DEMO_MARK=$work

leftovers() (
	unset NR_DEMO_MARK
	{
		grep -lzsFx "NR_DEMO_MARK=$work" /proc/[0-9]*/environ || :
		find /proc/[0-9]* -maxdepth 1 -name exe -lname "$work/*" \
			2>/dev/null || :
	} | cut -d / -f 3 | sort -un
)

nothing_left() {
	[[ -z $(leftovers) ]]
}

cleanup() {
	local pid
	for pid in $(leftovers); do
		kill -KILL "$pid" 2>/dev/null || :
	done
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

now() { # in milliseconds
	local t=${EPOCHREALTIME/[.,]/}
	echo "$((t / 1000))"
}

# result WHAT WAS-IT-RIGHT DETAILS
result() {
	steps=$((steps + 1))
	if [[ $2 == yes ]]; then
		printf '%2d. %-46s ok     %s\n' "$steps" "$1" "$3"
	else
		wrong=$((wrong + 1))
		printf '%2d. %-46s WRONG  %s\n' "$steps" "$1" "$3"
	fi
}

yes_if() {
	if "$@"; then echo yes; else echo no; fi
}

alive() {
	local state
	state=$(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$1/status" \
		2>/dev/null) || return 1
	[[ -n $state && $state != Z && $state != X ]]
}

none_alive() {
	local pid
	for pid in "$@"; do
		if alive "$pid"; then
			return 1
		fi
	done
}

# wait_until SECONDS COMMAND...
wait_until() {
	local deadline=$(($(now) + $1 * 1000))
	shift
	until "$@"; do
		if (($(now) > deadline)); then
			return 1
		fi
		sleep 0.005
	done
}

sum() {
	sha256sum "$@" | cut -d ' ' -f 1
}

# No step may take longer, whatever is wrong with it.
t() {
	timeout -k 5 60 "$@"
}

# run STATUS NRUN'S-ARGUMENT...: shows it, runs it, and sets right, code, ms.
run() {
	local wanted=$1 begin
	shift
	code=0
	begin=$(now)
	t "$lib/nrun" "$@" 2>"$work/err" || code=$?
	ms=$(($(now) - begin))
	right=$(yes_if test "$code" = "$wanted")
}

said() { # the last line on stderr
	tail -n 1 "$work/err"
}

"${CC:-cc}" -std=c11 -O2 -Wall -Wextra -I "$root/include" "$root/examples/pipeline.c" \
	-L "$lib" -lnetrunner "-Wl,-rpath,$lib" -o "$work/pipeline"

echo "libnetrunner in $BUILD, on $(uname -srm)"
echo

# --- input and output ------------------------------------------------------

file=$BUILD/netrunner-shepherd # a real file of some size, which is always there
run 0 gzip -c <"$file" >"$work/packed"
run 0 gzip -dc <"$work/packed" >"$work/unpacked"
result "nrun gzip, and back" "$(yes_if cmp -s "$file" "$work/unpacked")" \
	"$(stat -L -c %s "$file") bytes to $(stat -c %s "$work/packed") and back"

head -c 50000000 /dev/urandom >"$work/random"
begin=$(now)
got=$(t "$lib/nrun" cat <"$work/random" | sum || :)
result "nrun cat, 50 MB in and out at the same time" \
	"$(yes_if test "$got" = "$(sum "$work/random")")" \
	"same checksum, $(($(now) - begin)) ms"

got=$(t "$work/pipeline" cat "$work/random" '|' sha256sum 2>/dev/null |
	cut -d ' ' -f 1 || :)
result "a pipeline of two programs, and one host" \
	"$(yes_if test "$got" = "$(sum "$work/random")")" "same checksum"

got=$(t "$lib/nrun" --pty sh -c 'stty size; test -t 0 && echo on a terminal' </dev/null |
	tr -d '\r' | paste -sd , || :)
result "nrun --pty sh" "$(yes_if test "$got" = "24 80,on a terminal")" "it says: $got"

run 7 --stats sh -c 'cat; exit 7' <"$work/random" >"$work/out"
result "nrun --stats" "$(yes_if grep -q '^  stdin *47.7 MiB$' "$work/err")" \
	"$(awk '/exit|time|memory/ { sub(/^nrun: /, ""); sub(/^ */, ""); gsub(/  +/, " "); printf "%s%s", s, $0; s = "; " }' "$work/err")"

# --- how programs end ------------------------------------------------------

run 139 sh -c 'ulimit -c 0; kill -SEGV $$'
result "a program that crashes" "$right" "exit status $code"

run 127 no-such-program
result "a program that is not there" "$right" "$code, $(said)"

run 124 --timeout 1s --kill-after 1s sh -c "trap '' TERM; echo \$\$ >'$work/pid'
	while :; do sleep 1; done"
result "nrun --timeout 1s --kill-after 1s" \
	"$(yes_if test "$right" = yes -a ! -d "/proc/$(cat "$work/pid" || echo self)")" \
	"it ignored SIGTERM, and is gone after $ms ms"

run 123 --max-output 1M yes >"$work/out"
result "nrun --max-output 1M yes" \
	"$(yes_if test "$right" = yes -a "$(stat -c %s "$work/out")" = 1048576)" "$code, $(said)"

# shellcheck disable=SC2016  # the program expands it
run 122 --memory 50M sh -c 'x=x; while :; do x=$x$x; done'
if [[ $code == 125 && $(said) == "nrun: cgroup: "* ]]; then
	echo "    nrun --memory 50M is not to be had here: $(said | cut -c 1-120)"
else
	result "nrun --memory 50M" "$right" "$code, $(said)"
fi

# --- nothing is left -------------------------------------------------------

job=$(t "$lib/nrun" sh -c 'setsid sleep 1000 >/dev/null 2>&1 & echo $!' || echo 0)
result "a program leaves a daemon" "$(yes_if none_alive "$job")" "gone with it"

"$lib/nrun" sh -c "trap '' HUP INT TERM
	for i in 1 2 3 4 5 6 7 8 9; do setsid sleep 1000 & echo \$!; done >'$work/new'
	echo \$\$ >>'$work/new'; mv '$work/new' '$work/pids'; wait" &
host=$!
disown "$host" # or bash would remark on its death
if wait_until 30 test -e "$work/pids"; then
	mapfile -t pids <"$work/pids"
	kill -KILL "$host"
	begin=$(now)
	gone=$(yes_if wait_until 30 none_alive "${pids[@]}")
	result "nrun is killed with SIGKILL" "$gone" \
		"its ${#pids[@]} processes are gone after $(($(now) - begin)) ms"
else
	result "nrun is killed with SIGKILL" no "its program did not start"
fi

left=$(yes_if wait_until 15 nothing_left)
result "no program and no shepherd is left" "$left" \
	"$(if [[ $left == yes ]]; then echo none; else leftovers | paste -sd ' '; fi)"

echo
if ((wrong > 0)); then
	echo "$wrong of $steps steps went wrong"
	exit 1
fi
echo "all $steps steps as they should be"
