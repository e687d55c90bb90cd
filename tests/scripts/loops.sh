#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The programs in examples/loops/, which do the same job in different loops: each
# has to do it right.
#
#     loops.sh [LOOP]...     poll, epoll, libuv, libev, glib, asyncio, fibers, beam

# check() calls the functions, which shellcheck does not see.
# shellcheck disable=SC2317

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh disable=SC1091
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

loops=$ROOT/examples/loops
mkdir "$WORK/in"
cd "$WORK/in"
# 3 MB each, far more than a pipe holds.
for n in 1 2 3; do
	awk -v n="$n" 'BEGIN { for (i = 0; i < 60000; i++) printf "line %d of file %d, and some more of it\n", i, n }' >"$n"
done
: >empty
printf 'no newline' >half

export WORK

# With what a loop is run: set by the loops below.
loop=()
run() { t "${loop[@]}" "$@"; }

# What a file's lines have to become, in their order.
expected() { sed "s/^/$1: /" "$2"; }

lines_of() { grep "^$1: " "$WORK/out"; }

copies() {
	status 0 run cat 1 2 3 >"$WORK/out" 2>"$WORK/err"
	for n in 1 2 3; do
		lines_of "$n" | cmp - <(expected "$n" "$n")
	done
	equal "$(sort "$WORK/err" | tr '\n' ' ')" "1: exit 0 2: exit 0 3: exit 0 " "how they ended"
}

# All of them at once: each waits for the others.
at_once() {
	rm -f "$WORK"/met.*
	# shellcheck disable=SC2016 # they are the programs'
	status 0 run ': >"$WORK/met.$$"; until [ -e "$(echo "$WORK"/met.* | cut -d " " -f 3)" ]; do sleep 0.1; done; echo met' 1 2 3 >"$WORK/out" 2>/dev/null
	equal "$(sort "$WORK/out" | tr '\n' ' ')" "1: met 2: met 3: met " output
}

small_inputs() {
	status 0 run cat empty half >"$WORK/out" 2>/dev/null
	equal "$(cat "$WORK/out")" "half: no newline" output
}

# It ends, or closes its stdin, before it has read all.
unread() {
	status 0 run 'head -n 2' 1 2 >"$WORK/out" 2>/dev/null
	equal "$(sort "$WORK/out" | cut -c 1-9 | tr '\n' ' ')" "1: line 0 1: line 1 2: line 0 2: line 1 " output
	status 0 run 'exec <&-; echo closed; sleep 0.2' 1 >"$WORK/out" 2>/dev/null
	equal "$(cat "$WORK/out")" "1: closed" output
}

# It does not read at first, and writes a lot before it does.
late_reader() {
	status 0 run 'cat 2; sleep 0.3; cat' 1 >"$WORK/out" 2>/dev/null
	lines_of 1 | cmp - <(cat 2 1 | sed 's/^/1: /')
}

# Nobody reads what the loop prints: then it reads no more than that, from a
# program that writes for ever.
backpressure() {
	local before after='' pid
	rm -f "$WORK"/{slow,count,written}
	mkfifo "$WORK/slow"
	# shellcheck disable=SC2016 # it is the program's
	"${loop[@]}" 'i=0; while cat 1; do i=$((i + 1)); echo $i >"$WORK/count"; mv "$WORK/count" "$WORK/written"; done' \
		empty >"$WORK/slow" 2>/dev/null &
	pid=$!
	exec 8<"$WORK/slow"
	# A file is more than a pipe holds, and less than all buffers together.
	t head -c 4000000 <&8 >/dev/null
	eventually test -s "$WORK/written"
	until [[ $after == "${before:-none}" ]]; do
		before=$(cat "$WORK/written")
		sleep 0.5
		after=$(cat "$WORK/written")
	done
	echo "$after files of 3 MB"
	[[ $after -lt 10 ]]
	# It goes on when somebody reads.
	t head -c 8000000 <&8 >/dev/null
	eventually more_than "$after"
	exec 8<&-
	eventually gone "$pid"
}

more_than() { [[ $(cat "$WORK/written") -gt $1 ]]; }

out_of_time() {
	status 1 run -t 300 'echo begun; sleep 1000' 1 2 >"$WORK/out" 2>"$WORK/err"
	equal "$(sort "$WORK/out" | tr '\n' ' ')" "1: begun 2: begun " output
	equal "$(sort "$WORK/err" | tr '\n' ' ')" "1: out of time 2: out of time " "how they ended"
}

statuses() {
	# shellcheck disable=SC2016 # they are the programs'
	status 1 run 'read -r a b c d file rest; [ "$file" = "2," ] && exit 7; kill -9 $$' 1 2 >"$WORK/out" 2>"$WORK/err"
	equal "$(sort "$WORK/err" | tr '\n' ' ')" "1: signal 9 2: exit 7 " "how they ended"
}

# The end of a program is not held up by what it leaves.
background() {
	status 0 run 'sleep 1000 & echo done' 1 >"$WORK/out" 2>/dev/null
	equal "$(cat "$WORK/out")" "1: done" output
}

failures() {
	status 1 run cat half missing empty >"$WORK/out" 2>"$WORK/err"
	grep -qi 'missing.*no such file\|no such file.*missing' "$WORK/err"
	grep -q '^half: exit 0' "$WORK/err"
	equal "$(cat "$WORK/out")" "half: no newline" output
	status 1 run cat missing >"$WORK/out" 2>"$WORK/err"
	local status=0
	run cat >"$WORK/out" 2>"$WORK/err" || status=$?
	equal "$((status > 0 && status < 126))" 1 "whether it fails without files"
	grep -qi usage "$WORK/err"
}

# A loop that watches what it should not runs all the time.
sleeps() {
	local TIMEFORMAT='%U %S'
	{ time run 'echo 1; exec >&- <&-; sleep 2' 1 >"$WORK/out" 2>/dev/null; } 2>"$WORK/times"
	cat "$WORK/times"
	awk '{ exit $1 + $2 > 1.3 }' "$WORK/times"
}

killed() {
	"${loop[@]}" 'echo $$; sleep 1000' empty half >"$WORK/out" 2>/dev/null &
	eventually both_run
	kill -KILL $!
	wait $! 2>/dev/null || :
	eventually nothing_left
}

# Two shells, two sleeps, shepherd and guardian, and the loop.
both_run() { [[ $(leftovers | wc -l) -ge 7 ]]; }

check_loop() {
	local name=$1
	check "$name: copies 3 MB in each of three programs" copies
	check "$name: they run at once" at_once
	check "$name: small inputs" small_inputs
	check "$name: a program that does not read all" unread
	check "$name: a program that reads late" late_reader
	check "$name: backpressure" backpressure
	check "$name: time limit" out_of_time
	check "$name: exit codes and signals" statuses
	check "$name: a background job" background
	check "$name: what cannot be run" failures
	check "$name: it sleeps when nothing happens" sleeps
	check "$name: killed, it leaves nothing" killed
}

build() {
	local name=$1
	shift
	"$CC" -std=c11 -O2 -g -Wall -Wextra -Werror -I "$ROOT/include" -o "$WORK/$name" "$loops/$name.c" "$loops/job.c" \
		-L "$LIB" -lnetrunner "-Wl,-rpath,$LIB" "$@"
}

has_header() { echo "#include <$1>" | "$CC" -E -x c -o /dev/null - 2>/dev/null; }

check_c() {
	local name=$1
	shift
	check "$name: builds" build "$name" "$@"
	loop=("$WORK/$name")
	check_loop "$name"
}

export NETRUNNER_LIBRARY=$LIB/libnetrunner.so

build_nif() {
	mkdir -p "$WORK/erlang/netrunner"
	cp -a "$ROOT"/bindings/erlang/{Makefile,src,c_src} "$WORK/erlang/netrunner"
	make -s -C "$WORK/erlang/netrunner" NETRUNNER_INCLUDE="$ROOT/include" NETRUNNER_BUILD="$LIB"
}

test_loop() {
	local flags
	case $1 in
	poll | epoll) check_c "$1" ;;
	libuv)
		if has_header uv.h; then
			check_c libuv -luv
		else
			skip libuv "no libuv (libuv1-dev)"
		fi
		;;
	libev)
		if has_header ev.h; then
			check_c libev -lev
		else
			skip libev "no libev (libev-dev)"
		fi
		;;
	glib)
		if pkg-config --exists glib-2.0 2>/dev/null; then
			read -ra flags < <(pkg-config --cflags --libs glib-2.0)
			check_c glib "${flags[@]}"
		else
			skip glib "no GLib (libglib2.0-dev)"
		fi
		;;
	asyncio)
		if python3 -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null; then
			loop=(env PYTHONPATH="$ROOT/bindings/python/src" PYTHONDONTWRITEBYTECODE=1 python3 "$loops/files_asyncio.py")
			check_loop asyncio
		else
			skip asyncio "no Python 3.9"
		fi
		;;
	fibers)
		if ruby -e 'require "async"; require "fiddle"' 2>/dev/null; then
			loop=(ruby -I "$ROOT/bindings/ruby/lib" "$loops/files_fibers.rb")
			check_loop fibers
		else
			skip fibers "no Ruby with the gem async"
		fi
		;;
	beam)
		if command -v escript >/dev/null && command -v make >/dev/null; then
			check "beam: the application builds" build_nif
			loop=(env ERL_LIBS="$WORK/erlang" escript "$loops/files.escript")
			check_loop beam
		else
			skip beam "no Erlang"
		fi
		;;
	*) fail "$1" "no such loop" ;;
	esac
}

[[ $# -gt 0 ]] || set -- poll epoll libuv libev glib asyncio fibers beam
for name; do
	test_loop "$name"
done

finish
