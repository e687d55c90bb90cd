#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds the programs in examples/ and runs them, once as anybody would build
# them, and once under AddressSanitizer and UBSan.
#
# Environment: KINDS, "plain sanitized". With KINDS=sanitized and BUILD=build/asan
# the library is under the sanitizers too.

# check() calls the functions, which shellcheck does not see; and what is quoted
# is meant for the programs.
# shellcheck disable=SC2317,SC2016

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh disable=SC1091
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# To be sent a signal by a script that runs without job control, and to be the
# program that a shell inside script(1) runs.
export SHELL=/bin/sh

build() {
	local name=$1
	shift
	mkdir -p "$bin"
	"$CC" -std=c11 -O1 -g -Wall -Wextra -Werror "$@" -I "$ROOT/include" \
		"$ROOT/examples/$name.c" -L "$LIB" -lnetrunner \
		"-Wl,-rpath,$LIB" -o "$bin/$name"
}

sum() {
	sha256sum "$@" | cut -d ' ' -f 1
}

# --- run -----------------------------------------------------------------

run_file() {
	equal "$(t "$bin/run" -- cat <"$input" | sum)" "$input_sum" checksum
}

run_pipe() {
	# shellcheck disable=SC2002  # a pipe is the point
	equal "$(cat "$input" | t "$bin/run" -- cat | sum)" "$input_sum" checksum
}

# The far side begins to read late: everything in between has to wait for it.
run_slow_reader() {
	equal "$(t "$bin/run" -- cat <"$input" | (
		head -c 1
		sleep 0.3
		cat
	) | sum)" "$input_sum" checksum
}

run_output_file() {
	t "$bin/run" -- cat "$input" >"$WORK/out"
	cmp "$input" "$WORK/out"
}

run_separate() {
	t "$bin/run" -- sh -c 'echo to out; echo to err >&2' \
		>"$WORK/out" 2>"$WORK/err"
	equal "$(cat "$WORK/out")" "to out" stdout
	equal "$(cat "$WORK/err")" "to err" stderr
}

# More on each than any pipe holds, one after the other: reading only one of
# them would never end.
run_both_full() {
	t "$bin/run" -- sh -c \
		'head -c 3000000 /dev/zero >&2; head -c 3000000 /dev/zero' \
		>"$WORK/out" 2>"$WORK/err"
	equal "$(wc -c <"$WORK/out")" 3000000 "stdout's length"
	equal "$(wc -c <"$WORK/err")" 3000000 "stderr's length"
}

run_codes() {
	local code
	for code in 0 1 7 126 255; do
		status "$code" t "$bin/run" sh -c "exit $code"
	done
	status 137 t "$bin/run" sh -c 'kill -KILL $$'
	status 143 t "$bin/run" sh -c 'kill -TERM $$'
}

run_arguments() {
	equal "$(t "$bin/run" -- printf '[%s]' 'a b' '' '*' '$HOME' -t --)" \
		'[a b][][*][$HOME][-t][--]' arguments
}

# It has closed its stdin and goes on: run must neither fail nor spin.
run_stdin_unread() {
	equal "$(t "$bin/run" -- sh -c 'exec <&-; echo on' <"$input")" on output
	status 0 t "$bin/run" -- true <"$input"
	{ yes || :; } | status 0 t "$bin/run" -- head -c 5
}

run_no_stdio() {
	equal "$(t "$bin/run" -- sh -c 'cat; echo over' <&-)" over output
	status 3 t "$bin/run" -- sh -c 'echo lost; exit 3' >&- 2>&-
}

run_timeout() {
	local begin=$SECONDS
	status 124 t "$bin/run" -t 0.2 -- sleep 1000
	((SECONDS - begin < LIMIT / 2))
	# It was in time, and says 124 by itself.
	status 124 t "$bin/run" -t 1000 -- sh -c 'exit 124'
	status 0 t "$bin/run" -t 1000 -- true
}

run_timeout_ignorer() {
	local pid
	status 124 t "$bin/run" -t 0.3 -k 0.3 -- sh -c \
		"trap '' TERM; echo \$\$ >'$WORK/pid'; while :; do sleep 1; done"
	pid=$(cat "$WORK/pid")
	gone "$pid" || {
		echo "$pid is alive after the timeout was reported"
		return 1
	}
}

run_timeout_now() {
	status 124 t "$bin/run" -t 0.2 -k 0 -- \
		sh -c "trap '' TERM; while :; do sleep 1; done"
}

run_failures() {
	status 127 t "$bin/run" -- no-such-program 2>"$WORK/err"
	cat "$WORK/err"
	grep -q 'no-such-program.*ENOENT' "$WORK/err"

	status 127 t "$bin/run" -- "$WORK/nowhere/x" 2>"$WORK/err"
	cat "$WORK/err"
	grep -q 'nowhere/x.*ENOENT' "$WORK/err"

	echo 'echo no' >"$WORK/plain-file"
	status 126 t "$bin/run" -- "$WORK/plain-file" 2>"$WORK/err"
	cat "$WORK/err"
	grep -q 'plain-file.*EACCES' "$WORK/err"

	status 125 t "$bin/run" 2>/dev/null
	status 125 t "$bin/run" -t x -- true 2>/dev/null
	NETRUNNER_SHEPHERD=$WORK/none \
		status 125 t "$bin/run" -- true 2>"$WORK/err"
	cat "$WORK/err"
	grep -q ENOPKG "$WORK/err"
}

# run passes the broken pipe on to the program, which dies of it: 128 + SIGPIPE.
run_closed_stdout() {
	local begin=$SECONDS codes
	set +e
	t "$bin/run" -- yes | head -c 10 >"$WORK/out"
	codes=("${PIPESTATUS[@]}")
	set -e
	((SECONDS - begin < LIMIT / 2))
	equal "$(wc -c <"$WORK/out")" 10 "the length of what came through"
	equal "${codes[0]}" 141 status
	eventually nothing_left
}

run_background() {
	local pid
	pid=$(t "$bin/run" -- sh -c 'sleep 1000 & echo $!')
	gone "$pid" || {
		echo "$pid is alive after run has ended"
		return 1
	}
}

run_stats() {
	t "$bin/run" --stats -- cat <"$input" >"$WORK/out" 2>"$WORK/err"
	cat "$WORK/err"
	cmp "$input" "$WORK/out"
	grep -qE '^ *stdin +10000000 bytes$' "$WORK/err"
	grep -qE '^ *stdout +10000000 bytes$' "$WORK/err"
	grep -qE '^ *wall +[0-9]+\.[0-9]+ ms$' "$WORK/err"
	grep -qE '^ *peak memory +[0-9]+ bytes$' "$WORK/err"
}

# The last line of defence: run is killed, and can do nothing itself.
run_killed() {
	local host job program
	rm -f "$WORK/pids"
	"$bin/run" -- sh -c "trap '' HUP INT TERM
		sleep 1000 & echo \$! \$\$ >'$WORK/pids.new'
		mv '$WORK/pids.new' '$WORK/pids'; wait" &
	host=$!
	eventually test -e "$WORK/pids"
	kill -KILL "$host"
	read -r job program <"$WORK/pids"
	eventually gone "$job"
	eventually gone "$program"
	eventually nothing_left
}

run_interrupted() {
	local host
	rm -f "$WORK/pid"
	# A background job of a script ignores SIGINT, so that is not what to send.
	"$bin/run" -- sh -c "echo \$\$ >'$WORK/pid.new'
		mv '$WORK/pid.new' '$WORK/pid'; exec sleep 1000" &
	host=$!
	eventually test -e "$WORK/pid"
	kill -TERM "$host"
	eventually gone "$host"
	status 143 wait "$host"
	eventually gone "$(cat "$WORK/pid")"
}

# --- pipeline ------------------------------------------------------------

pipeline_checksum() {
	equal "$(t "$bin/pipeline" cat "$input" '|' sha256sum 2>"$WORK/err" |
		cut -d ' ' -f 1)" "$input_sum" checksum
	cat "$WORK/err"
	grep -q 'cat: exit 0' "$WORK/err"
	grep -q 'sha256sum: exit 0' "$WORK/err"
	grep -q '10000000 bytes' "$WORK/err"
}

pipeline_stdin() {
	equal "$(echo hello | t "$bin/pipeline" cat -- tr a-z A-Z 2>/dev/null)" \
		HELLO output
}

# head ends early: yes must notice, and everything must end.
pipeline_early() {
	local begin=$SECONDS
	equal "$(t "$bin/pipeline" yes '|' head -n 3 2>"$WORK/err" | tr '\n' ' ')" \
		"y y y " output
	cat "$WORK/err"
	((SECONDS - begin < LIMIT / 2))
	grep -q 'yes: signal 13' "$WORK/err"
	grep -q 'head: exit 0' "$WORK/err"
	eventually nothing_left
}

pipeline_slow_second() {
	equal "$(t "$bin/pipeline" cat "$input" '|' \
		sh -c 'sleep 0.3; cat' 2>/dev/null | sum)" "$input_sum" checksum
}

pipeline_codes() {
	status 9 t "$bin/pipeline" sh -c 'exit 4' '|' \
		sh -c 'cat; exit 9' 2>"$WORK/err"
	cat "$WORK/err"
	equal "$(grep -c 'sh: exit [49]$' "$WORK/err")" 2 "the number of reports"
	status 137 t "$bin/pipeline" true '|' sh -c 'kill -9 $$' \
		2>/dev/null
}

pipeline_failures() {
	status 127 t "$bin/pipeline" no-such-program '|' cat \
		2>/dev/null
	# The first one runs already when the second cannot be started.
	status 127 t "$bin/pipeline" sleep 1000 '|' no-such-program \
		2>/dev/null
	eventually nothing_left
	status 125 t "$bin/pipeline" cat 2>/dev/null
	status 125 t "$bin/pipeline" cat '|' 2>/dev/null
	status 125 t "$bin/pipeline" '|' cat 2>/dev/null
}

# --- terminal ------------------------------------------------------------

terminal_prompt() {
	open_tty "PS1='ready> ' '$bin/terminal' sh"
	expect 'ready> '
	send 'test -t 0 && test -t 1 && test -t 2 && echo "a"ll\n'
	expect '^all'
	send 'exit 5\n'
	close_tty 5
}

# Its own terminal must be raw, or it would echo too, and the new one must not.
terminal_echo() {
	open_tty "'$bin/terminal' sh -c 'echo ready; cat'"
	expect ready
	send 'mirror\n'
	eventually shown_times 2 mirror
	send '\004'
	close_tty 0
	equal "$(grep -c mirror "$WORK/screen")" 2 "times that the line is shown"
}

terminal_size() {
	open_tty "stty rows 33 cols 101; exec '$bin/terminal' stty size"
	close_tty 0
	grep -q '^33 101' "$WORK/screen"
}

# The window changes while the program runs, and the program is told.
terminal_resize() {
	local window
	open_tty "tty; exec '$bin/terminal' sh -c 'trap \"stty size\" WINCH
		echo ready; while :; do sleep 0.1; done'"
	expect ready
	window=$(grep -m 1 -oE '/dev/[a-z0-9/]+' "$WORK/screen")
	stty -F "$window" rows 17 cols 71
	expect '^17 71'
	stty -F "$window" rows 18
	expect '^18 71'
	send '\003'
	close_tty 130
}

# Ctrl-C is for the program, not for us, and so is Ctrl-D.
terminal_keys() {
	open_tty "'$bin/terminal' sh -c 'trap \"echo in\"\"terrupted\" INT
		echo ready; cat; echo end; exit 6'"
	expect ready
	# It is lost on a cat that is still the shell that forked it.
	send 'mirror\n'
	eventually shown_times 2 mirror
	send '\003'
	expect '^interrupted\|\^Cinterrupted'
	expect '^end'
	close_tty 6

	open_tty "'$bin/terminal' sh -c 'echo ready; cat; exit 8'"
	expect ready
	send '\004'
	close_tty 8
}

terminal_restores() {
	open_tty "a=\$(stty -g); '$bin/terminal' true
		[ \"\$a\" = \"\$(stty -g)\" ] && echo same"
	expect '^same'
	close_tty 0
}

terminal_restores_on_signal() {
	local sig
	for sig in TERM HUP INT QUIT; do
		rm -f "$WORK/pid"
		open_tty "a=\$(stty -g)
			(trap - INT QUIT; sh -c 'echo \$\$ >\"$WORK/pid\"
				exec \"$bin/terminal\" sh -c \"echo ready; cat\"')
			echo \"status \$?\"
			[ \"\$a\" = \"\$(stty -g)\" ] && echo same"
		expect ready
		kill "-$sig" "$(cat "$WORK/pid")"
		expect '^same'
		expect "^status $((128 + $(kill -l "$sig")))"
		close_tty 0
	done
	eventually nothing_left
}

# Stopped and continued: the shell gets a sane terminal in between.
terminal_suspends() {
	local window pid
	rm -f "$WORK/pid"
	open_tty "tty; sh -c 'echo \$\$ >\"$WORK/pid\"
		exec \"$bin/terminal\" sh -c \"echo ready; cat\"'"
	expect ready
	pid=$(cat "$WORK/pid")
	window=$(grep -m 1 -oE '/dev/[a-z0-9/]+' "$WORK/screen")
	stty -a -F "$window" | grep -q -- '-icanon'
	kill -TSTP "$pid"
	eventually grep -q '^State:.*T' "/proc/$pid/status"
	stty -a -F "$window" | grep -qE '(^| )icanon'
	kill -CONT "$pid"
	eventually is_raw "$window"
	send 'mirror\n'
	eventually shown_times 2 mirror
	send '\004'
	close_tty 0
}

# The window is closed: its program has to go too.
terminal_hangs_up() {
	local script pid
	open_tty "echo \$PPID >'$WORK/script'
		exec '$bin/terminal' sh -c 'echo \$\$ >\"$WORK/pid\"; echo ready
		while :; do sleep 0.1; done'"
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

# Without a terminal of its own, as in a pipe.
terminal_in_pipe() {
	printf 'echo a"b"c\nexit 3\n' |
		status 3 t "$bin/terminal" sh >"$WORK/screen"
	cat -v "$WORK/screen"
	grep -qE '(^|[$#] )abc' "$WORK/screen"
	# The end of stdin, after a line, after half a line, and at once.
	equal "$(printf 'x\n' | t "$bin/terminal" cat | tr -d '\r' | sort -u)" x \
		output
	equal "$(printf 'x' | t "$bin/terminal" cat)" xx output
	status 0 t "$bin/terminal" cat </dev/null
	equal "$(t "$bin/terminal" stty size </dev/null 2>&1 | tr -d '\r')" \
		"24 80" "the size without a window"
}

# What a program writes in its last moment is shown.
terminal_last_words() {
	equal "$(t "$bin/terminal" head -c 200000 /dev/zero </dev/null | wc -c)" \
		200000 "the length of the output"
}

terminal_failures() {
	status 127 t "$bin/terminal" no-such-program </dev/null \
		2>"$WORK/err"
	grep -q 'no-such-program.*ENOENT' "$WORK/err"
	t "$bin/terminal" yes </dev/null | head -c 10 >/dev/null || :
	eventually nothing_left
}

# --- all of it, twice ----------------------------------------------------

check_all() {
	local kind=$1
	check "$kind run: 10 MB from a file, and back" run_file
	check "$kind run: 10 MB from a pipe, and back" run_pipe
	check "$kind run: a reader that begins late" run_slow_reader
	check "$kind run: into a file" run_output_file
	check "$kind run: stderr is separate" run_separate
	check "$kind run: 3 MB on both outputs" run_both_full
	check "$kind run: exit codes and signals" run_codes
	check "$kind run: arguments are passed as they are" run_arguments
	check "$kind run: a program that does not read" run_stdin_unread
	check "$kind run: started without stdin, stdout, stderr" run_no_stdio
	check "$kind run: timeout" run_timeout
	check "$kind run: timeout of a program that ignores SIGTERM" \
		run_timeout_ignorer
	check "$kind run: timeout without grace" run_timeout_now
	check "$kind run: what cannot be run" run_failures
	check "$kind run: nobody reads its output" run_closed_stdout
	check "$kind run: a background job dies with its program" run_background
	check "$kind run: statistics" run_stats
	check "$kind run: killed with SIGKILL, nothing survives" run_killed
	check "$kind run: ended with SIGTERM, nothing survives" run_interrupted

	check "$kind pipeline: 10 MB through" pipeline_checksum
	check "$kind pipeline: stdin to stdout" pipeline_stdin
	check "$kind pipeline: the second ends early" pipeline_early
	check "$kind pipeline: the second begins late" pipeline_slow_second
	check "$kind pipeline: both exit codes" pipeline_codes
	check "$kind pipeline: what cannot be run" pipeline_failures

	check "$kind terminal: in a pipe" terminal_in_pipe
	check "$kind terminal: nothing of the end is lost" terminal_last_words
	check "$kind terminal: what cannot be run" terminal_failures
	if ! command -v script >/dev/null; then
		skip "$kind terminal: in a terminal" "no script(1)"
		return
	fi
	check "$kind terminal: a prompt, a command, an exit code" terminal_prompt
	check "$kind terminal: one echo" terminal_echo
	check "$kind terminal: the window's size" terminal_size
	check "$kind terminal: a change of the size" terminal_resize
	check "$kind terminal: Ctrl-C and Ctrl-D" terminal_keys
	check "$kind terminal: the terminal is restored" terminal_restores
	check "$kind terminal: restored when a signal ends it" \
		terminal_restores_on_signal
	check "$kind terminal: stopped and continued" terminal_suspends
	check "$kind terminal: the window is closed" terminal_hangs_up
}

input=$WORK/input
head -c 10000000 /dev/urandom >"$input"
input_sum=$(sum "$input")

build_and_check() {
	local kind=$1 name
	shift
	bin=$WORK/$kind
	for name in run pipeline terminal; do
		check "$kind $name: builds" build "$name" "$@"
	done
	check_all "$kind"
}

sanitizers=("-fsanitize=address,undefined" -fno-sanitize-recover=all)

have_sanitizers() {
	echo 'int main(void) { return 0; }' >"$WORK/empty.c"
	"$CC" "${sanitizers[@]}" "$WORK/empty.c" -o "$WORK/empty" 2>/dev/null &&
		"$WORK/empty"
}

for kind in ${KINDS:-plain sanitized}; do
	if [[ $kind == plain ]]; then
		build_and_check plain
	elif have_sanitizers; then
		build_and_check sanitized "${sanitizers[@]}"
	else
		skip "the examples under ASan and UBSan" "$CC has no sanitizers here"
	fi
done

finish
