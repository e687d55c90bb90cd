#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# What `make demo` shows: the programs beside this script, built against the
# library in $BUILD (build/), at work on real input. Each step prints what it
# shows and what came out of it; the exit status is 0 if all came out right.

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
cp "$BUILD/libnetrunner.so" "$BUILD/netrunner-shepherd" "$lib"
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
		printf '%2d. %-50s ok     %s\n' "$steps" "$1" "$3"
	else
		wrong=$((wrong + 1))
		printf '%2d. %-50s WRONG  %s\n' "$steps" "$1" "$3"
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

for name in run pipeline terminal; do
	"${CC:-cc}" -std=c11 -O2 -Wall -Wextra -I "$root/include" \
		"$root/examples/$name.c" -L "$lib" -lnetrunner \
		"-Wl,-rpath,$lib" -o "$work/$name"
done
run=$work/run
pipeline=$work/pipeline
terminal=$work/terminal

echo "libnetrunner in $BUILD, on $(uname -srm)"
echo

# --- input and output ------------------------------------------------------

file=$BUILD/netrunner-shepherd # a real file of some size, which is always there
size=$(stat -L -c %s "$file")
begin=$(now)
t "$run" -- gzip -c <"$file" >"$work/packed" || :
t "$run" -- gzip -dc <"$work/packed" >"$work/unpacked" || :
result "compress a file, uncompress it" \
	"$(yes_if cmp -s "$file" "$work/unpacked")" \
	"$size bytes to $(stat -c %s "$work/packed") and back, $(($(now) - begin)) ms"

head -c 50000000 /dev/urandom >"$work/random"
begin=$(now)
got=$(t "$run" -- cat <"$work/random" | sum || :)
ms=$(($(now) - begin))
result "50 MB in and out at the same time" \
	"$(yes_if test "$got" = "$(sum "$work/random")")" \
	"same checksum, $ms ms"

t "$run" -- sh -c 'echo to stdout; echo to stderr >&2' \
	>"$work/out" 2>"$work/err" || :
got="$(cat "$work/out"), $(cat "$work/err")"
result "stdout and stderr apart" \
	"$(yes_if test "$got" = "to stdout, to stderr")" "$got"

got=$(t "$pipeline" cat "$work/random" '|' sha256sum 2>/dev/null |
	cut -d ' ' -f 1 || :)
result "a pipeline of two programs, 50 MB" \
	"$(yes_if test "$got" = "$(sum "$work/random")")" "same checksum"

got=$(t "$pipeline" yes '|' head -n 2 2>"$work/err" | tr '\n' ' ' || :)
result "a pipeline whose end closes first" \
	"$(yes_if grep -q 'yes: signal 13' "$work/err")" \
	"head printed \"$got\", yes ended by SIGPIPE"

got=$(printf 'stty size; test -t 0 && echo on a "terminal"; exit\n' |
	t "$terminal" sh | tr -d '\r' | grep -oE '^(.*[#$] )?(24 80|on a terminal)$' |
	sed 's/.*[#$] //' | paste -sd , || :)
result "a shell on a terminal of its own" \
	"$(yes_if test "$got" = "24 80,on a terminal")" "it says: $got"

# --- how programs end ------------------------------------------------------

code=0
t "$run" -- sh -c 'exit 7' || code=$?
result "an exit code" "$(yes_if test "$code" = 7)" "$code"

code=0
# shellcheck disable=SC2016  # the program expands it
t "$run" -- sh -c 'kill -SEGV $$' || code=$?
result "a program that crashes" "$(yes_if test "$code" = 139)" \
	"signal $((code - 128))"

code=0
t "$run" -- no-such-program 2>"$work/err" || code=$?
result "a program that is not there" \
	"$(yes_if grep -q ENOENT "$work/err")" "$(sed 's/^run: //' "$work/err")"

code=0
begin=$(now)
t "$run" -t 1 -k 1 -- sh -c "trap '' TERM; echo \$\$ >'$work/pid'
	while :; do sleep 1; done" || code=$?
ms=$(($(now) - begin))
pid=$(cat "$work/pid" || echo 0)
result "1 s time limit, SIGTERM ignored, 1 s of grace" \
	"$(yes_if eval "test $code = 124 && none_alive $pid")" \
	"gone after $ms ms"

# --- nothing is left -------------------------------------------------------

begin=$(now)
job=$(t "$run" -- sh -c 'sleep 1000 >/dev/null 2>&1 & echo $!' || echo 0)
ms=$(($(now) - begin))
result "a program leaves a background job" "$(yes_if none_alive "$job")" \
	"over in $ms ms, and the job with it"

"$run" -- sh -c "trap '' HUP INT TERM
	for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & echo \$!; done >'$work/new'
	echo \$\$ >>'$work/new'; mv '$work/new' '$work/pids'; wait" &
host=$!
disown "$host" # or bash would remark on its death
if wait_until 30 test -e "$work/pids"; then
	mapfile -t pids <"$work/pids"
	kill -KILL "$host"
	begin=$(now)
	gone=$(yes_if wait_until 30 none_alive "${pids[@]}")
	ms=$(($(now) - begin))
	result "the host is killed with SIGKILL" "$gone" \
		"its ${#pids[@]} processes are gone after $ms ms"
else
	result "the host is killed with SIGKILL" no "its program did not start"
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
