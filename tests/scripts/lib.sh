# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Shared by the scripts beside it, which begin with
#
#     set -euo pipefail
#     . "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
#
# and end with `finish`. In between:
#
#     pass NAME, fail NAME WHY, skip NAME WHY   count and print one result
#     check NAME COMMAND...    pass or fail by how COMMAND ends; a function is
#                              run in a subshell under set -e
#     equal GOT WANTED [WHAT]  for use in such a function
#     status N COMMAND...      likewise: COMMAND ends with status N
#     t COMMAND...             run it, but no longer than $LIMIT seconds
#     eventually COMMAND...    wait until it succeeds, $LIMIT seconds at most
#     leftovers                print the processes that this script has left
#     open_tty COMMAND         run it in a terminal, by script(1); send types
#                              into it, expect and shown_times N wait for what
#                              it shows, close_tty N waits for its end
#
# Environment: BUILD, the directory with what is to be tested (build/); CC and
# CXX; LIMIT, to be raised on a machine that is very slow.
#
# $LIB is a copy of the library and the shepherd for this script alone. So a
# shepherd that stays behind can be told from those of others.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
BUILD=${BUILD:-$ROOT/build}
CC=${CC:-cc}
CXX=${CXX:-c++}
LIMIT=${LIMIT:-60}

passed=0
failed=0
skipped=0
finished=no

if [[ ! -e $BUILD/libnetrunner.so || ! -e $BUILD/netrunner-shepherd ]]; then
	echo "$0: no libnetrunner.so and netrunner-shepherd in $BUILD: run make" >&2
	exit 2
fi
BUILD=$(cd "$BUILD" && pwd)

WORK=$(mktemp -d "${TMPDIR:-/tmp}/netrunner-test.XXXXXX")
LIB=$WORK/lib
mkdir "$LIB"
cp "$BUILD/libnetrunner.so" "$BUILD/netrunner-shepherd" "$LIB"
ln -s libnetrunner.so "$LIB/libnetrunner.so.0"
unset NETRUNNER_SHEPHERD

# Everything that this script starts inherits it; the script's own
# /proc/PID/environ is from before and does not show it.
export NR_TEST_MARK=$WORK

pass() {
	passed=$((passed + 1))
	printf 'ok    %s\n' "$1"
}

fail() {
	failed=$((failed + 1))
	printf 'FAIL  %s: %s\n' "$1" "$2"
}

skip() {
	skipped=$((skipped + 1))
	printf 'skip  %s: %s\n' "$1" "$2"
}

# Not in a condition: that would switch set -e off in the subshell.
check() {
	local name=$1 status
	shift
	: >"$WORK/log"
	set +e
	(
		set -e
		"$@"
	) >>"$WORK/log" 2>&1
	status=$?
	set -e
	if [[ $status -eq 0 ]]; then
		pass "$name"
	else
		fail "$name" "status $status, output:"
		tail -n 20 "$WORK/log" | sed 's/^/      | /'
		# The next one is not to be blamed for what this one left.
		end_leftovers
	fi
}

equal() {
	[[ $1 == "$2" ]] && return 0
	# To the log by name: the caller's output may be something under test.
	printf '%s is "%s", expected "%s"\n' "${3:-it}" "$1" "$2" >>"$WORK/log"
	return 1
}

status() {
	local wanted=$1 got=0
	shift
	"$@" || got=$?
	equal "$got" "$wanted" "the status of $*"
}

t() {
	timeout -k 5 "$LIMIT" "$@"
}

eventually() {
	local deadline=$((SECONDS + LIMIT))
	until "$@"; do
		if ((SECONDS > deadline)); then
			echo "waited $LIMIT s in vain for: $*" >>"$WORK/log"
			return 1
		fi
		sleep 0.02
	done
}

gone() {
	# A zombie is as dead as it gets: whoever adopted it has yet to look.
	local state
	state=$(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$1/status" \
		2>/dev/null) || return 0
	[[ -z $state || $state == Z || $state == X ]]
}

open_tty() {
	rm -f "$WORK/keys" "$WORK/screen"
	mkfifo "$WORK/keys"
	: >"$WORK/screen"
	t script -qefc "$1" /dev/null <"$WORK/keys" >"$WORK/screen" 2>&1 &
	tty_pid=$!
	exec 7>"$WORK/keys"
}

send() {
	# shellcheck disable=SC2059  # with escapes, such as \003
	printf "$1" >&7
}

expect() {
	eventually grep -q -- "$1" "$WORK/screen" || {
		cat -v "$WORK/screen"
		return 1
	}
}

shown_times() {
	[[ $(grep -c -- "$2" "$WORK/screen") -ge $1 ]]
}

close_tty() {
	local status=0
	eventually gone "$tty_pid"
	wait "$tty_pid" || status=$?
	exec 7>&-
	cat -v "$WORK/screen"
	equal "$status" "$1" "the status in the end"
}

is_raw() {
	stty -a -F "$1" | grep -q -- '-icanon'
}

# One grep and one find, because this is called in loops. They and their like
# are not to have the mark themselves.
leftovers() (
	unset NR_TEST_MARK
	{
		grep -lzsFx "NR_TEST_MARK=$WORK" /proc/[0-9]*/environ || :
		find /proc/[0-9]* -maxdepth 1 -name exe -lname "$WORK/*" \
			2>/dev/null || :
	} | cut -d / -f 3 | sort -un
)

nothing_left() {
	[[ -z $(leftovers) ]]
}

end_leftovers() {
	local pid
	for pid in $(leftovers); do
		printf '      | killed: %s %s\n' "$pid" \
			"$(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" || :)"
		kill -KILL "$pid" 2>/dev/null || :
	done
}

# Ends the script; its last line is the count, as tests/run.sh expects it.
finish() {
	# An ended host's shepherd may be at work still, for as long as a grace.
	check "no process is left behind" eventually nothing_left
	finished=yes
	printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
	if [[ $failed -gt 0 ]]; then
		exit 1
	fi
	exit 0
}

cleanup() {
	local status=$?
	end_leftovers
	rm -rf "$WORK"
	if [[ $finished == no ]]; then
		printf '%s: stopped before its end\n' "$(basename "$0" .sh)" >&2
		[[ $status -ne 0 ]] || status=1
	fi
	exit "$status"
}
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
