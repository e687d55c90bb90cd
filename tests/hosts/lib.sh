# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# tests/scripts/lib.sh, and for the scripts beside this one
#
#     need COMMAND PACKAGE... installs what is missing by apt-get, or ends the
#                             script, which then counts as one skipped test
#     give_up WHY             ends it in the same way
#     dies_with_all COMMAND...  for check: a host that prints "ready" and is then
#                             killed by SIGKILL, which must leave nothing
#
# $HOSTS is the directory of the hosts' sources.

# shellcheck source-path=SCRIPTDIR source=../scripts/lib.sh disable=SC1091
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib.sh"

# shellcheck disable=SC2034 # for those scripts
HOSTS=$ROOT/tests/hosts

give_up() {
	skip "$(basename "$0" .sh)" "$*"
	finished=yes
	printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
	exit 0
}

# Never for long: neither for a slow mirror nor for another's lock.
apt() {
	DEBIAN_FRONTEND=noninteractive timeout --kill-after=10 300 apt-get -q \
		-o DPkg::Lock::Timeout=200 -o Acquire::http::Timeout=60 "$@" </dev/null
}

need() {
	! command -v "$1" >/dev/null || return 0
	[[ $(id -u) == 0 ]] || give_up "no $1, and only root can install $2"
	command -v apt-get >/dev/null || give_up "no $1, and no apt-get to install it"
	{ apt install -y --no-install-recommends "${@:2}" || { apt update && apt install -y --no-install-recommends "${@:2}"; }; } \
		>"$WORK/apt" 2>&1 || :
	command -v "$1" >/dev/null || give_up "no $1: $(tail -n 1 "$WORK/apt")"
}

dies_with_all() {
	local host line=""
	coproc "$@" 2>"$WORK/stderr"
	host=$COPROC_PID
	IFS= read -r -t "$LIMIT" line <&"${COPROC[0]}" || :
	if [[ $line != ready ]]; then
		kill -KILL "$host" || :
		cat "$WORK/stderr"
		equal "$line" ready "the host's first line"
	fi
	# It has trees of programs.
	[[ $(leftovers | wc -l) -gt 10 ]]
	kill -KILL "$host"
	wait "$host" || :
	eventually nothing_left
}
