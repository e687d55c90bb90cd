#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs all tests that `make tests` has built, and the rest, one suite after the
# other. Ends with a line that counts the tests of all of them, and fails if one
# failed, or if any left a shepherd behind.
#
#     tests/run.sh [SUITE]...             only the suites whose name contains SUITE
#     tests/run.sh --list [SUITE]...      print their names

set -uo pipefail
cd "$(dirname "$0")/.." || exit

BUILD=${BUILD:-build}
export BUILD
logs=$(mktemp -d)
export logs
trap 'rm -rf "$logs"' EXIT
passed=0 failed=0 skipped=0
list=no
if [[ ${1:-} == --list ]]; then
	list=yes
	shift
fi
wanted=("$@")

# AddressSanitizer finds leaks, too. Go handles SIGSEGV itself.
export ASAN_OPTIONS=detect_leaks=1:abort_on_error=0:handle_segv=0
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1

is_wanted() {
	[[ ${#wanted[@]} == 0 ]] && return
	local part
	for part in "${wanted[@]}"; do
		[[ $1 == *"$part"* ]] && return
	done
	return 1
}

# suite NAME COMMAND...: the command prints a line 'N passed, N failed, N skipped'.
suite() {
	local name=$1 log started=$SECONDS status counts
	shift
	is_wanted "$name" || return 0
	if [[ $list == yes ]]; then
		echo "$name"
		return
	fi
	log=$logs/${name//[^a-z0-9]/_}
	echo "== $name"
	timeout --kill-after=10 1200 bash -c '"$@"' "$name" "$@" >"$log" 2>&1
	status=$?
	counts=$(grep -E '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' "$log" | tail -n 1)
	if [[ -z $counts ]]; then
		counts="0 passed, 1 failed, 0 skipped"
	elif [[ $status != 0 && $counts == *" 0 failed,"* ]]; then
		counts="${counts/ 0 failed/ 1 failed}"
	fi
	read -r p _ f _ s _ <<<"$counts"
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
	if [[ $f != 0 ]]; then
		cat "$log"
		echo "== $name: exit status $status"
	else
		grep -i '^ *\(--- \)\?skip' "$log"
	fi
	echo "   $counts ($((SECONDS - started)) s)"
}

# go_tests counts the lines of go test -v, subtests too.
go_tests() {
	local log=$logs/go_test_output status
	go test -v -count=1 "$@" >"$log" 2>&1
	status=$?
	grep -E "^ *--- (FAIL|SKIP)|^(FAIL|panic|WARNING: DATA RACE)" "$log"
	[[ $status == 0 ]] || cat "$log"
	echo "$(grep -c -E '^ *--- PASS' "$log") passed, $(grep -c -E '^ *--- FAIL|^FAIL.*\[build failed\]' "$log") failed, $(grep -c -E '^ *--- SKIP' "$log") skipped"
	return "$status"
}

# A shepherd lives for some milliseconds longer than its host.
no_shepherds() {
	local deadline=$((SECONDS + 30)) left
	while left=$(grep -l netrunner-sheph /proc/[0-9]*/comm 2>/dev/null | while read -r comm; do
		[[ $(readlink "${comm%comm}exe") == "$PWD/$BUILD"/* ]] && echo "${comm%/comm}"
	done) && [[ -n $left ]]; do
		if ((SECONDS > deadline)); then
			echo "left behind: $left"
			echo "0 passed, 1 failed, 0 skipped"
			return 1
		fi
		sleep 0.1
	done
	echo "1 passed, 0 failed, 0 skipped"
}

# What root may do is no test of what others may not.
as_nobody() {
	setpriv --reuid=65534 --regid=65534 --clear-groups "$@"
}

# The same in a cgroup that has been given to nobody, if there can be one.
as_delegate() {
	local mount group status
	mount=$(awk '/ - cgroup2 / { print $5; exit }' /proc/self/mountinfo)
	group=$mount/netrunner-test-$BASHPID
	if [[ -z $mount ]] || ! mkdir "$group" 2>/dev/null; then
		as_nobody "$@"
		return
	fi
	mkdir "$group/session"
	chown 65534 "$group" "$group"/cgroup.{procs,subtree_control,threads}
	chown -R 65534 "$group/session"
	# shellcheck disable=SC2016  # they are that shell's
	NR_TEST_CGROUP=${group##*/} bash -c 'echo $$ >"$0"; exec "$@"' "$group/session/cgroup.procs" \
		setpriv --reuid=65534 --regid=65534 --clear-groups "$@"
	status=$?
	# The shepherd lives for some milliseconds longer.
	timeout 30 bash -c 'until rmdir "$@" 2>/dev/null; do sleep 0.1; done' - "$group/session" || status=1
	rmdir "$group" || status=1
	return "$status"
}

# A language that is not to be had here is a reason to skip its binding.
with_deps() {
	local missing
	if [[ -x $1/deps.sh ]] && ! missing=$("$1/deps.sh" 2>&1); then
		echo "skip $1: $(tail -n 1 <<<"$missing")"
		echo "0 passed, 0 failed, 1 skipped"
		return
	fi
	"$1/run-tests"
}

# Of test_cgroup, whose groups have its process id in their names.
no_cgroups() {
	local left=() group mount
	while read -r _ _ _ _ mount _; do
		for group in "$(printf %b "$mount")"/netrunner-test-*; do
			[[ ! -d $group || -d /proc/${group##*-} ]] || left+=("$group")
		done
	done < <(grep ' - cgroup2 ' /proc/self/mountinfo)
	if [[ ${#left[@]} -gt 0 ]]; then
		echo "left behind: ${left[*]}"
		echo "0 passed, 1 failed, 0 skipped"
		return 1
	fi
	echo "1 passed, 0 failed, 0 skipped"
}

export -f with_deps go_tests no_shepherds no_cgroups as_nobody as_delegate

suite "static checks" tests/check.sh
suite "go, with the race detector" go_tests -race ./core/... ./shepherd/...
for test in "$BUILD"/tests/test_*; do
	suite "c: ${test##*/}" "$test"
done
for test in "$BUILD"/asan/tests/test_*; do
	suite "c, sanitized: ${test##*/}" "$test"
done
if [[ $(id -u) == 0 ]] && as_nobody test -x "$BUILD/tests/testprog"; then
	for test in "$BUILD"/tests/test_*; do
		if [[ $test == */test_cgroup ]]; then
			suite "c, unprivileged: ${test##*/}" as_delegate "$test"
		else
			suite "c, unprivileged: ${test##*/}" as_nobody "$test"
		fi
	done
elif [[ $list == no ]]; then
	echo "== c, unprivileged: skipped, not root or $BUILD not accessible for others"
	skipped=$((skipped + 1))
fi
for script in tests/scripts/*.sh; do
	[[ $script == */lib.sh ]] || suite "script: ${script##*/}" "$script"
done
for script in tests/hosts/*.sh; do
	[[ ! -x $script ]] || suite "host: $(basename "$script" .sh)" "$script"
done
suite "vm: cgroups with controllers" tests/vm/run.sh
suite "vm: arm64" tests/vm/arm64.sh
if command -v python3 >/dev/null; then
	suite "counts of system calls and instructions" tests/bench/counts.py
elif [[ $list == no ]]; then
	echo "== counts of system calls and instructions: skipped, no python3"
	skipped=$((skipped + 1))
fi
suite "chaos" "$BUILD/tests/chaos" -n 40 -s 1
for tests in bindings/*/run-tests; do
	suite "binding: $(basename "${tests%/run-tests}")" with_deps "${tests%/run-tests}"
done
suite "no shepherd is left" no_shepherds
suite "no cgroup is left" no_cgroups

[[ $list == no ]] || exit 0
echo "$passed passed, $failed failed, $skipped skipped"
[[ $failed == 0 && $passed -gt 0 ]]
