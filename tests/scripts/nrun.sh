#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# nrun: every option, every exit status, bytes, signals, terminals, and what is
# left. What needs the controllers of cgroups is in tests/vm/nrun.
#
# Environment: KINDS, "plain sanitized".

# check() calls the functions, which shellcheck does not see; and what is quoted
# is meant for the programs.
# shellcheck disable=SC2317,SC2016

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh disable=SC1091
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

export SHELL=/bin/sh
ulimit -c 0

sum() {
	sha256sum | cut -d ' ' -f 1
}

# says TEXT: it is what nrun has printed on stderr, which is in $WORK/err.
says() {
	cat "$WORK/err"
	grep -qF -- "$1" "$WORK/err"
}

says_nothing() {
	equal "$(cat "$WORK/err")" "" stderr
}

# In the background, where bash would have it ignore some signals; its program
# writes $WORK/pid when it is ready, which started waits for.
start() {
	rm -f "$WORK/pid"
	env --default-signal "$nrun" "$@" &
	host=$!
}

# started [NAME]: and it has executed that one.
started() {
	eventually test -e "$WORK/pid"
	program=$(cat "$WORK/pid")
	[[ $# == 0 ]] || eventually grep -qx "$1" "/proc/$program/comm"
}

# ended N: it does, with status N.
ended() {
	eventually gone "$host"
	status "$1" wait "$host"
}

# What its program runs in a shell to say so.
ready="echo \$\$ >'$WORK/pid.new'; mv '$WORK/pid.new' '$WORK/pid'"

# --- bytes -----------------------------------------------------------------

# 256 MiB, of which no two blocks are alike.
big() {
	{ seq 100000000 140000000 || :; } | head -c $((256 << 20))
}

through_pipes() {
	equal "$(big | t "$nrun" cat | sum)" "$big_sum" checksum
}

through_files() {
	t "$nrun" cat <"$input" >"$WORK/out"
	cmp "$input" "$WORK/out"
	# Appended, and not from the start.
	echo before >"$WORK/out"
	t "$nrun" tail -n 1 <<<after >>"$WORK/out"
	equal "$(paste -sd , "$WORK/out")" before,after "the file"
}

# A socket on both sides, as sshd(8) and inetd(8) have it.
through_sockets() {
	t python3 - "$nrun" "$input" <<-'END'
		import socket, subprocess, sys, threading
		nrun, data = sys.argv[1], open(sys.argv[2], "rb").read()
		ours, theirs = socket.socketpair()
		program = subprocess.Popen([nrun, "cat"], stdin=theirs, stdout=theirs)
		theirs.close()
		def feed():
		    ours.sendall(data)
		    ours.shutdown(socket.SHUT_WR)
		thread = threading.Thread(target=feed)
		thread.start()
		got = b"".join(iter(lambda: ours.recv(1 << 16), b""))
		thread.join()
		assert got == data, len(got)
		assert program.wait() == 0
	END
}

separate_outputs() {
	t "$nrun" sh -c 'echo to out; echo to err >&2' >"$WORK/out" 2>"$WORK/err"
	equal "$(cat "$WORK/out")" "to out" stdout
	equal "$(cat "$WORK/err")" "to err" stderr
	# More on each than any pipe holds, one after the other.
	t "$nrun" sh -c 'head -c 3000000 /dev/zero >&2; head -c 3000000 /dev/zero' \
		>"$WORK/out" 2>"$WORK/err"
	equal "$(wc -c <"$WORK/out")" 3000000 "stdout's length"
	equal "$(wc -c <"$WORK/err")" 3000000 "stderr's length"
}

# With 2>&1 their order counts.
outputs_in_order() {
	local i wanted=
	for i in 1 2 3 4 5 6 7 8; do
		wanted+="out $i"$'\n'"err $i"$'\n'
	done
	equal "$(t "$nrun" sh -c 'for i in 1 2 3 4 5 6 7 8; do echo out $i; echo err $i >&2; done' 2>&1)" \
		"${wanted%$'\n'}" output
}

# Nobody reads: the program is stopped by it, not by a full memory.
backpressure() {
	local host progress before memory
	rm -f "$WORK/fifo" "$WORK/blocks"
	mkfifo "$WORK/fifo"
	"$nrun" sh -c 'while head -c 65536 /dev/zero; do echo x >>"$0"; done' "$WORK/blocks" >"$WORK/fifo" &
	host=$!
	exec 8<"$WORK/fifo"
	eventually test -s "$WORK/blocks"
	# Until it gets no further.
	before=-1
	progress=0
	while [[ $before != "$progress" ]]; do
		before=$progress
		sleep 1
		progress=$(wc -l <"$WORK/blocks")
	done
	echo "$progress blocks"
	((progress < 64)) # 4 MiB: two pipes and a buffer
	memory=$(sed -n 's/^VmRSS: *\([0-9]*\) kB/\1/p' "/proc/$host/status")
	[[ $nrun == */asan/* ]] || ((memory < 50000))
	# And it goes on, to the last byte.
	head -c 20000000 <&8 >"$WORK/out"
	equal "$(wc -c <"$WORK/out")" 20000000 "what came"
	kill -KILL "$host"
	exec 8<&-
	eventually nothing_left
}

# O_NONBLOCK would be seen by all who share the open file.
blocking_mode_stays() {
	t python3 - "$nrun" <<-'END'
		import fcntl, os, pty, subprocess, sys
		def flags(fd):
		    return fcntl.fcntl(fd, fcntl.F_GETFL)
		def ends():
		    yield os.pipe()
		    yield pty.openpty()
		# It is looked at while the program runs, and after it.
		for theirs_in, ours_in in ends():
		    for ours_out, theirs_out in ends():
		        before = flags(theirs_in), flags(theirs_out)
		        program = subprocess.Popen([sys.argv[1], "sh", "-c", "echo x; read x"],
		            stdin=theirs_in, stdout=theirs_out, stderr=theirs_out)
		        assert os.read(ours_out, 1) == b"x"
		        assert (flags(theirs_in), flags(theirs_out)) == before
		        os.write(ours_in, b"x\n")
		        assert program.wait() == 0
		        assert (flags(theirs_in), flags(theirs_out)) == before
	END
}

reader_goes() {
	local codes
	set +e
	t "$nrun" yes 2>"$WORK/err" | head -c 10 >"$WORK/out"
	codes=("${PIPESTATUS[@]}")
	set -e
	says_nothing
	equal "$(wc -c <"$WORK/out")" 10 "the length of what came through"
	equal "${codes[0]}" 141 status
	# While the program is silent.
	set +e
	t "$nrun" sh -c 'while :; do sleep 0.1; [ ! -e "$0" ] || echo; done' "$WORK/out" | true
	codes=("${PIPESTATUS[@]}")
	set -e
	equal "${codes[0]}" 141 status
}

# It ignores its input, and whoever feeds it has to learn that.
feeder_learns() {
	# Without t, which would be one more who could read.
	rm -f "$WORK/yes"
	{
		t yes || :
		echo over >"$WORK/yes"
	} | "$nrun" -t "$LIMIT" sh -c 'exec <&-; while [ ! -e "$0" ]; do sleep 0.1; done' "$WORK/yes"
	{ yes || :; } | status 0 t "$nrun" head -c 5
}

full_disk() {
	[[ -c /dev/full ]]
	status 125 t "$nrun" yes >/dev/full 2>"$WORK/err"
	says "nrun: write: No space left on device"
}

no_stdio() {
	equal "$(t "$nrun" sh -c 'cat; echo over' <&-)" over output
	status 3 t "$nrun" sh -c 'echo lost; exit 3' >&- 2>&-
}

# --- exit statuses -----------------------------------------------------------

own_statuses() {
	local code
	for code in 0 1 7 122 123 124 125 126 127 255; do
		status "$code" t "$nrun" sh -c "exit $code" 2>"$WORK/err"
		says_nothing
	done
	status 137 t "$nrun" sh -c 'kill -KILL $$'
	status 139 t "$nrun" sh -c 'ulimit -c 0; kill -SEGV $$'
}

cannot_execute() {
	status 127 t "$nrun" no-such-program 2>"$WORK/err"
	says "nrun: execve no-such-program (looked up in PATH): no such file or directory (ENOENT)"
	status 127 t "$nrun" "$WORK/nowhere/x" 2>"$WORK/err"
	says "nowhere/x"
	rm -f "$WORK/no-program"
	echo 'echo no' >"$WORK/no-program"
	status 126 t "$nrun" "$WORK/no-program" 2>"$WORK/err"
	says EACCES
	chmod 755 "$WORK/no-program"
	status 126 t "$nrun" "$WORK/no-program" 2>"$WORK/err"
	says ENOEXEC
	status 126 t "$nrun" / 2>"$WORK/err"
	says EACCES
}

own_errors() {
	status 125 t "$nrun" -C "$WORK/nowhere" true 2>"$WORK/err"
	says "nrun: chdir $WORK/nowhere: no such file or directory (ENOENT)"
	NETRUNNER_SHEPHERD=$WORK/none status 125 t "$nrun" true 2>"$WORK/err"
	says ENOPKG
}

# wrong TEXT OPTION...: it is refused, TEXT is a part of the reason, and nothing runs.
wrong() {
	local text=$1
	shift
	status 125 t "$nrun" "$@" sh -c 'echo ran >&2' 2>"$WORK/err"
	says "$text"
	says "Try 'nrun --help'."
	equal "$(grep -c . "$WORK/err")" 2 "the number of lines"
}

usage_errors() {
	local value
	wrong "unrecognized option '--nix'" --nix
	wrong "invalid option -- 'Z'" -Z
	wrong "doesn't allow an argument" --pty=x
	for value in x '' -1 +1 ' 1' 1e3 0x10 inf 5S 1.5.2 .5 1. 1.s 5ss 99999999999999999999 9999999999999d; do
		wrong "nrun: --timeout: \"$value\" is not a time" "--timeout=$value"
		wrong "nrun: --kill-after: \"$value\" is not a time" -k "$value"
	done
	wrong '--timeout: "0" is not above 0' -t 0
	for value in x '' 0 -1 1.5K 1KB 1k 1P 9223372036854775808 9007199254740992K 99999999999999999999 'K'; do
		wrong "nrun: --max-output: \"$value\" is not a number of bytes" "--max-output=$value"
		wrong "nrun: --memory: \"$value\" is not a number of bytes" -m "$value"
	done
	for value in x '' 50 % 0% -5% 1.5% 50%% 1000001%; do
		wrong "nrun: --cpu: \"$value\" is not a percentage" "--cpu=$value"
	done
	for value in x '' 0 -1 1K 4194305; do
		wrong "nrun: --pids: \"$value\" is not a number above 0" "--pids=$value"
	done
	wrong '--env: "A" is not NAME=VALUE' -e A
	wrong '--env: "=A" is not NAME=VALUE' -e =A
	wrong '--uid: "no-such-user" is not a user' -u no-such-user
	wrong '--uid: "-1" is not a user' -u -1
	wrong '--gid: "no-such-group" is not a group' -g no-such-group
	wrong '--gid: "4294967295" is not a group' -g 4294967295
	wrong '--uid: user 4000000 has no name, and so no group: add --gid' -u 4000000
	wrong '--progress and --pty exclude each other' --progress --pty
	status 125 t "$nrun" 2>"$WORK/err"
	says "which command?"
	status 125 t "$nrun" -t 2>"$WORK/err"
	says "option requires an argument -- 't'"
}

# --- options -----------------------------------------------------------------

arguments() {
	equal "$(t "$nrun" printf '[%s]' 'a b' '' '*' '$HOME' -t --)" '[a b][][*][$HOME][-t][--]' arguments
	equal "$(t "$nrun" -- -x 2>&1 || :)" \
		"nrun: execve -x (looked up in PATH): no such file or directory (ENOENT)" output
}

help_and_version() {
	local option
	t "$nrun" --help >"$WORK/help"
	# Each option that the manual has, and none that it has not.
	for option in $(grep -oE '^ +-[A-Za-z], --[a-z-]+' "$WORK/help" | tr -d ','); do
		grep -qE "^\.It .*Fl (${option#-}|-${option#--})( |$)" "$ROOT/man/nrun.1" || {
			echo "nrun.1 has no $option"
			return 1
		}
	done
	equal "$(grep -cE '^\.It Fl [A-Za-z] ' "$ROOT/man/nrun.1")" "$(grep -cE '^ +-[A-Za-z], --' "$WORK/help")" \
		"the number of options in nrun.1"
	equal "$(t "$nrun" -V)" "nrun $(sed -n 's/^#define NR_VERSION_\(MAJOR\|MINOR\|PATCH\) //p' \
		"$ROOT/include/netrunner.h" | paste -sd.)" version
	status 125 t "$nrun" --help >/dev/full
}

time_limit() {
	local value
	for value in 0.2 0.2s 200ms 0.004m; do
		status 124 t "$nrun" -t "$value" sleep 1000 2>"$WORK/err"
		says "nrun: sleep: out of time (--timeout)"
	done
	for value in 1000 1000s 100m 10h 1d 0.5d; do
		status 0 t "$nrun" --timeout "$value" true
	done
	status 7 t "$nrun" -t 1000 sh -c 'exit 7' 2>"$WORK/err"
	says_nothing
	# It ends in an orderly way, in time: that is out of time all the same.
	status 124 t "$nrun" -t 3 sh -c 'trap "echo bye; exit 3" TERM; while :; do sleep 0.05; done' \
		>"$WORK/out" 2>/dev/null
	equal "$(cat "$WORK/out")" bye output
}

kill_after() {
	local value
	for value in 0 100ms; do
		rm -f "$WORK/pid"
		status 124 t "$nrun" -t 3 -k "$value" sh -c "trap '' TERM; $ready; while :; do sleep 1; done" 2>/dev/null
		gone "$(cat "$WORK/pid")"
	done
}

max_output() {
	status 123 t "$nrun" -o 100K yes >"$WORK/out" 2>"$WORK/err"
	says "nrun: yes: too much output (--max-output)"
	equal "$(wc -c <"$WORK/out")" 102400 "what came through"
	# Both together.
	status 123 t "$nrun" --max-output 10 sh -c 'printf 123456; printf 123456 >&2; sleep 1000' \
		>"$WORK/out" 2>"$WORK/err"
	equal "$(wc -c <"$WORK/out")" 6 stdout
	says 1234
	# As much as is allowed is not too much.
	status 0 t "$nrun" -o 2M head -c 2097152 /dev/zero >/dev/null
}

environment() {
	equal "$(A=0 t "$nrun" -e A=1 --env B=x=y -e C= sh -c 'echo "$A,$B,${C-unset},$NR_TEST_MARK"')" \
		"1,x=y,,$WORK" environment
}

directory() {
	equal "$(t "$nrun" -C / pwd)" / "the directory"
	equal "$(t "$nrun" --cwd="$WORK" pwd)" "$(cd "$WORK" && pwd -P)" "the directory"
}

identity() {
	equal "$(t "$nrun" -C / --uid 65534 --gid 65533 sh -c 'echo $(id -u) $(id -g) $(id -G)')" \
		"65534 65533 $(groups_of 65534 65533)" "who it is"
	equal "$(t "$nrun" -C / -u nobody sh -c 'echo $(id -u) $(id -g)')" \
		"$(id -u nobody) $(id -g nobody)" "who it is"
	# A number without a name has no groups but the one that is given.
	equal "$(t "$nrun" -C / -u 4000000 -g 4000001 sh -c 'echo $(id -u) $(id -g) $(id -G)')" \
		"4000000 4000001 4000001" "who it is"
	equal "$(t "$nrun" -C / -g daemon sh -c 'echo $(id -u) $(id -gn) $(id -Gn)')" "0 daemon daemon" "who it is"
}

# Of a user with this primary group: his own groups and that one.
groups_of() {
	t setpriv --reuid "$1" --regid "$2" --init-groups id -G
}

identity_denied() {
	chmod 755 "$WORK"
	status 125 t setpriv --reuid 65534 --regid 65534 --clear-groups "$nrun" -C / -u root true 2>"$WORK/err"
	says EPERM
	equal "$(t setpriv --reuid 65534 --regid 65534 --clear-groups "$nrun" id -u)" 65534 "who it is"
}

linger() {
	# Until the last one has closed the output.
	equal "$(t "$nrun" --linger sh -c '(sleep 1; echo late) & echo early' | paste -sd ,)" early,late output
	equal "$(t "$nrun" sh -c '(sleep 1; echo late) & echo early' | paste -sd ,)" early output
}

pid_namespace() {
	equal "$(t "$nrun" -n sh -c 'echo $$')" 2 "its process id"
	equal "$(t "$nrun" --pid-namespace sh -c 'exit 9'; echo $?)" 9 status
}

stats() {
	t "$nrun" --stats cat <"$input" >"$WORK/out" 2>"$WORK/err"
	cat "$WORK/err"
	cmp "$input" "$WORK/out"
	equal "$(head -n 1 "$WORK/err")" "nrun: cat: exit code 0" "the first line"
	grep -qE '^  stdin +9\.5 MiB$' "$WORK/err"
	grep -qE '^  stdout +9\.5 MiB$' "$WORK/err"
	grep -qE '^  stderr +0 bytes$' "$WORK/err"
	grep -qE '^  time +[0-9]+\.[0-9]{3} s$' "$WORK/err"
	grep -qE '^  most memory +[0-9.]+ [KM]iB$' "$WORK/err"
	status 124 t "$nrun" -s -t 0.2 sleep 1000 2>"$WORK/err"
	says "nrun: sleep: signal 15 (Terminated), out of time"
}

stats_json() {
	t "$nrun" --stats-json "$WORK/json" sh -c 'cat; echo error >&2; exit 3' <"$input" >"$WORK/out" 2>/dev/null ||
		equal $? 3 status
	t "$nrun" -t 0.2 -J "$WORK/json2" sleep 1000 2>/dev/null || equal $? 124 status
	python3 - "$WORK/json" "$WORK/json2" <<-'END'
		import json, sys
		a, b = (json.load(open(name)) for name in sys.argv[1:])
		print(a, b)
		assert (a["code"], a["signal"], a["reason"]) == (3, None, "own")
		assert (b["code"], b["signal"], b["reason"]) == (None, 15, "timeout")
		assert (a["stdin_bytes"], a["stdout_bytes"], a["stderr_bytes"]) == (10000000, 10000000, 6)
		assert a["wall_ns"] > 0 and a["memory_peak"] > 0 and a["reads"] > 0
		assert b["wall_ns"] >= 200e6
	END
	status 125 t "$nrun" -J "$WORK/nowhere/x" true 2>"$WORK/err"
	says "nowhere/x: No such file or directory"
}

# Only on a terminal: nothing is in the way of what is kept.
progress_elsewhere() {
	t "$nrun" --progress sleep 2 2>"$WORK/err"
	says_nothing
}

# What the documentation shows, but for the lines that take a cgroup.
documented() {
	local line count=0
	mkdir -p "$WORK/examples"
	cd "$WORK/examples"
	printf '#!/bin/sh\necho done\n' >job
	chmod 755 job
	cp job make
	cp job zstd
	echo image >disk.img
	{
		awk '/^```/ { inside = !inside } inside && /^nrun / { sub(/  +#.*/, ""); print }' "$ROOT/README.md"
		sed -n 's/^\.Dl \(nrun .*\)/\1/p' "$ROOT/man/nrun.1"
	} >"$WORK/lines"
	while read -r line <&9; do
		[[ $line != *" -m "* ]] || continue
		echo "$line"
		PATH=$(dirname "$nrun"):$PWD:$PATH t sh -ec "$line"
		count=$((count + 1))
	done 9<"$WORK/lines"
	((count == 7))
	equal "$(cat job.log)" "done" job.log
	test -s result.json
}

# --- signals -------------------------------------------------------------------

signals_passed_on() {
	local sig
	for sig in HUP INT QUIT USR1 USR2 ALRM TERM; do
		start sh -c "trap 'echo got it; exit 42' $sig; $ready; while :; do sleep 0.05; done" >"$WORK/out"
		started
		kill "-$sig" "$host"
		ended 42
		equal "$(cat "$WORK/out")" "got it" "output after SIG$sig"
	done
}

signals_that_end() {
	local sig
	for sig in HUP INT USR1 TERM; do
		start sh -c "$ready; exec sleep 1000"
		started sleep
		kill "-$sig" "$host"
		ended $((128 + $(kill -l "$sig")))
		gone "$program"
	done
}

# nohup(1) holds for nrun, and so for its program.
signals_ignored() {
	rm -f "$WORK/pid"
	(
		trap '' HUP
		exec "$nrun" sh -c "$ready; exec sleep 1000"
	) &
	host=$!
	started sleep
	kill -HUP "$host"
	kill -USR1 "$host"
	ended 138
}

# Nothing is left to pass them to, but nobody takes the rest of the output.
signal_after_end() {
	rm -f "$WORK/fifo2"
	mkfifo "$WORK/fifo2"
	exec 8<>"$WORK/fifo2"
	start sh -c "$ready; exec head -c 100000 /dev/zero" >&8
	started
	eventually gone "$program"
	kill -TERM "$host"
	# It may have been on the way to the program still.
	until gone "$host"; do
		kill -TERM "$host" || :
		sleep 0.1
	done
	ended 143
	exec 8<&-
}

stopped() {
	grep -q '^State:.*T' "/proc/$1/status"
}

not_stopped() {
	! stopped "$1"
}

suspended() {
	# Not a shell: one that waits for vfork(2) is not stopped by name.
	start sh -c "$ready; exec sleep 1000"
	started sleep
	kill -TSTP "$host"
	eventually stopped "$host"
	eventually stopped "$program"
	kill -CONT "$host"
	eventually not_stopped "$host"
	eventually not_stopped "$program"
	kill -TERM "$host"
	ended 143
}

killed() {
	local job
	rm -f "$WORK/jobs"
	start sh -c "trap '' HUP INT TERM
		sleep 1000 & echo \$! >'$WORK/jobs'; setsid sleep 1000 & echo \$! >>'$WORK/jobs'
		$ready; wait"
	started
	kill -KILL "$host"
	for job in "$program" $(cat "$WORK/jobs"); do
		eventually gone "$job"
	done
	eventually nothing_left
}

background_job_dies() {
	local job
	job=$(t "$nrun" sh -c 'sleep 1000 & echo $!')
	gone "$job"
}

# --- terminals -----------------------------------------------------------------

pty_in_pipe() {
	printf 'echo a"b"c\nexit 3\n' | status 3 t "$nrun" --pty sh >"$WORK/screen"
	cat -v "$WORK/screen"
	grep -qE '(^|[$#] )abc' "$WORK/screen"
	# The end of stdin, after a line, after half a line, and at once.
	equal "$(printf 'x\n' | t "$nrun" -y cat | tr -d '\r' | sort -u)" x output
	equal "$(printf 'x' | t "$nrun" -y cat)" xx output
	status 0 t "$nrun" -y cat </dev/null
	equal "$(t "$nrun" -y stty size </dev/null 2>&1 | tr -d '\r')" "24 80" "the size without a window"
	equal "$(t "$nrun" -y head -c 200000 /dev/zero </dev/null | wc -c)" 200000 "the length of the output"
	# More than a line's worth of input for one that reads late.
	seq 2000 | t "$nrun" -y sh -c 'stty -echo; sleep 0.3; printf "last: "; tail -n 1' >"$WORK/screen"
	grep -q 'last: 2000' "$WORK/screen"
}

pty_prompt() {
	open_tty "PS1='ready> ' '$nrun' -y sh"
	expect 'ready> '
	send 'test -t 0 && test -t 1 && test -t 2 && echo "a"ll\n'
	expect '^all'
	send 'exit 5\n'
	close_tty 5
}

pty_resize() {
	local window
	open_tty "stty rows 33 cols 101; tty; exec '$nrun' --pty sh -c 'stty size; trap \"stty size\" WINCH
		echo ready; while :; do sleep 0.1; done'"
	expect '^33 101'
	expect ready
	window=$(grep -m 1 -oE '/dev/[a-z0-9/]+' "$WORK/screen")
	stty -F "$window" rows 17 cols 71
	expect '^17 71'
	send '\003'
	close_tty 130
}

pty_keys() {
	open_tty "'$nrun' -y sh -c 'trap \"echo in\"\"terrupted\" INT; echo ready; cat; echo end; exit 6'"
	expect ready
	# It is lost on a cat that is still the shell that forked it.
	send 'mirror\n'
	eventually shown_times 2 mirror
	send '\003'
	expect '^interrupted\|\^Cinterrupted'
	expect '^end'
	close_tty 6
}

# On every way out but SIGKILL.
pty_restores() {
	local sig
	open_tty "a=\$(stty -g); '$nrun' -y true; '$nrun' -y -t 0.3 sleep 1000; '$nrun' -y no-such-program
		[ \"\$a\" = \"\$(stty -g)\" ] && echo same"
	expect '^same'
	close_tty 0
	for sig in TERM HUP INT QUIT USR1 XCPU; do
		rm -f "$WORK/host"
		open_tty "a=\$(stty -g)
			(trap - INT QUIT; sh -c 'echo \$\$ >\"$WORK/host\"
				exec \"$nrun\" -y sh -c \"echo ready; cat\"'); echo \"status \$?\"
			[ \"\$a\" = \"\$(stty -g)\" ] && echo same"
		expect ready
		send 'mirror\n'
		eventually shown_times 2 mirror
		kill "-$sig" "$(cat "$WORK/host")"
		expect '^same'
		expect "^status $((128 + $(kill -l "$sig")))"
		close_tty 0
	done
	eventually nothing_left
}

# The shell gets a sane terminal while it is stopped, and the program a raw one.
pty_suspended() {
	local window pid
	open_tty "tty; sh -c 'echo \$\$ >\"$WORK/host\"; exec \"$nrun\" -y sh -c \"echo ready; cat\"'"
	expect ready
	pid=$(cat "$WORK/host")
	window=$(grep -m 1 -oE '/dev/[a-z0-9/]+' "$WORK/screen")
	eventually is_raw "$window"
	kill -TSTP "$pid"
	eventually stopped "$pid"
	stty -a -F "$window" | grep -qE '(^| )icanon'
	kill -CONT "$pid"
	eventually is_raw "$window"
	send 'mirror\n'
	eventually shown_times 2 mirror
	send '\004'
	close_tty 0
}

# The window is closed: its program has to go too.
pty_hangs_up() {
	local script pid
	open_tty "echo \$PPID >'$WORK/script'
		exec '$nrun' -y sh -c 'echo \$\$ >\"$WORK/pid\"; echo ready; while :; do sleep 0.1; done'"
	expect ready
	script=$(cat "$WORK/script")
	pid=$(cat "$WORK/pid")
	equal "$(cat "/proc/$script/comm")" script "what is to be killed"
	kill -KILL "$script"
	eventually gone "$tty_pid"
	exec 7>&-
	eventually gone "$pid"
	eventually nothing_left
}

# On a terminal, without one for the program: Ctrl-C comes as a signal.
tty_interrupt() {
	open_tty "exec '$nrun' sh -c 'trap \"echo got it; exit 4\" INT; echo ready; while :; do sleep 0.05; done'"
	expect ready
	send '\003'
	expect 'got it'
	close_tty 4
}

# A line that is overwritten, and gone in the end; lines of the program are whole.
tty_progress() {
	open_tty "head -c 3000000 /dev/zero | '$nrun' -v sh -c 'sleep 3; echo a whole line >&2; sleep 2; cat' >/dev/null
		echo over"
	close_tty 0
	grep -q $'\r\033\[Kin [0-9.]* [KM]iB, .*/s  out 0 bytes, 0 bytes/s  0:00:0[1-9]' "$WORK/screen"
	grep -q $'\r\033\[Ka whole line' "$WORK/screen"
	grep -q $'\r\033\[Kover' "$WORK/screen"
}

# --- cgroups -------------------------------------------------------------------

cgroup2=$(awk '/ - cgroup2 / { print $5; exit }' /proc/self/mountinfo)
group=netrunner-test-$$

# With what is everywhere: a group. Limits take controllers, see tests/vm/nrun.
cgroup_named() {
	local got
	got=$(t "$nrun" --cgroup "$group" sed -n 's/^0:://p' /proc/self/cgroup)
	echo "$got"
	[[ $got == */"$group"/netrunner-* ]]
	eventually test ! -e "$cgroup2/$group"
}

cgroup_errors() {
	status 125 t "$nrun" -G ../x true 2>"$WORK/err"
	says "nrun: cgroup_base: "
}

cgroup_none() {
	chmod 755 "$WORK"
	status 125 t setpriv --reuid 65534 --regid 65534 --clear-groups "$nrun" -m 100M true 2>"$WORK/err"
	says "nrun: cgroup: no group that this user may use"
	says "systemd-run --user --scope -p Delegate=yes nrun"
}

# --- all of it, twice ------------------------------------------------------------

check_all() {
	local kind=$1
	check "$kind: 256 MiB through pipes" through_pipes
	check "$kind: 10 MB from a file into a file" through_files
	check "$kind: 10 MB through sockets" through_sockets
	check "$kind: two outputs" separate_outputs
	check "$kind: two outputs that are one" outputs_in_order
	check "$kind: nobody reads, and the program waits" backpressure
	check "$kind: stdin and stdout stay in blocking mode" blocking_mode_stays
	check "$kind: the reader goes" reader_goes
	check "$kind: the program closes its stdin" feeder_learns
	check "$kind: a full disk" full_disk
	check "$kind: started without stdin, stdout, stderr" no_stdio

	check "$kind: the program's status" own_statuses
	check "$kind: 126 and 127" cannot_execute
	check "$kind: 125" own_errors
	check "$kind: what is wrong on the command line" usage_errors

	check "$kind: arguments" arguments
	check "$kind: --help, --version" help_and_version
	check "$kind: --timeout" time_limit
	check "$kind: --kill-after" kill_after
	check "$kind: --max-output" max_output
	check "$kind: --env" environment
	check "$kind: --cwd" directory
	if [[ $(id -u) == 0 ]]; then
		check "$kind: --uid, --gid" identity
		check "$kind: --uid without privilege" identity_denied
	else
		skip "$kind: --uid, --gid" "not root"
	fi
	check "$kind: --linger" linger
	if t unshare --pid --mount true 2>/dev/null || t unshare --user --pid --mount true 2>/dev/null; then
		check "$kind: --pid-namespace" pid_namespace
	else
		skip "$kind: --pid-namespace" "not allowed here"
	fi
	check "$kind: --stats" stats
	check "$kind: --stats-json" stats_json
	check "$kind: --progress without a terminal" progress_elsewhere

	check "$kind: the examples of README.md and nrun(1)" documented

	check "$kind: signals are passed on" signals_passed_on
	check "$kind: signals that end the program" signals_that_end
	check "$kind: signals that were ignored before" signals_ignored
	check "$kind: a signal when the program has ended" signal_after_end
	check "$kind: stopped and continued" suspended
	check "$kind: killed, and nothing survives" killed
	check "$kind: a background job dies with its program" background_job_dies

	check "$kind --pty: in a pipe" pty_in_pipe
	if command -v script >/dev/null; then
		check "$kind --pty: a prompt, a command, an exit code" pty_prompt
		check "$kind --pty: the window's size" pty_resize
		check "$kind --pty: Ctrl-C" pty_keys
		check "$kind --pty: the terminal is restored" pty_restores
		check "$kind --pty: stopped and continued" pty_suspended
		check "$kind --pty: the window is closed" pty_hangs_up
		check "$kind: Ctrl-C" tty_interrupt
		check "$kind: --progress" tty_progress
	else
		skip "$kind: in a terminal" "no script(1)"
	fi

	if [[ -n $cgroup2 ]] && mkdir "$cgroup2/$group" 2>/dev/null; then
		rmdir "$cgroup2/$group"
		check "$kind: --cgroup" cgroup_named
	else
		skip "$kind: --cgroup" "no cgroup2 that this user may write to"
	fi
	check "$kind: a cgroup's name that is none" cgroup_errors
	if [[ $(id -u) == 0 && -n $cgroup2 ]]; then
		check "$kind: --memory without a delegated cgroup" cgroup_none
	else
		skip "$kind: --memory without a delegated cgroup" "not root, or no cgroup2"
	fi
}

input=$WORK/input
head -c 10000000 /dev/urandom >"$input"
big_sum=$(big | sum)

for kind in ${KINDS:-plain sanitized}; do
	case $kind in
	plain) dir=$BUILD ;;
	*) dir=$BUILD/asan ;;
	esac
	if [[ ! -x $dir/nrun ]]; then
		skip "$kind" "no $dir/nrun: make tests"
		continue
	fi
	# Copies, see lib.sh.
	mkdir "$WORK/$kind"
	cp "$dir"/{libnetrunner.so,netrunner-shepherd,nrun} "$WORK/$kind"
	ln -s libnetrunner.so "$WORK/$kind/libnetrunner.so.0"
	nrun=$WORK/$kind/nrun
	check_all "$kind"
done

finish
