#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The emulator of Erlang, by bindings/erlang, whose calls run on normal and on
# dirty schedulers.

# check() calls the functions, which shellcheck does not see.
# shellcheck disable=SC2317

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh disable=SC1091
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

"$ROOT/bindings/erlang/deps.sh" >"$WORK/deps" 2>&1 || give_up "$(tail -n 1 "$WORK/deps")"
unset ERL_LIBS ERL_FLAGS
export LC_ALL=C.UTF-8 ERL_CRASH_DUMP_SECONDS=0

app=$BUILD/hosts/erlang
build() {
	mkdir -p "$app"
	for part in Makefile src c_src; do
		rm -rf "${app:?}/$part"
		cp -a "$ROOT/bindings/erlang/$part" "$app"
	done
	make -s -C "$app" NETRUNNER_INCLUDE="$ROOT/include" NETRUNNER_BUILD="$BUILD"
	erlc -Werror -o "$app" "$HOSTS/beam_host.erl"
}

# Its end by init:stop() is a normal one.
storm() {
	t erl -noinput -pa "$app/ebin" "$app" "$@" -run beam_host storm >"$WORK/output" || {
		cat "$WORK/output"
		return 1
	}
	equal "$(cat "$WORK/output")" survived "its output"
}

check "it is built" build
[[ $failed == 0 ]] || finish
check "storm" storm
check "storm, with one scheduler of each kind" storm +S 1 +SDcpu 1 +SDio 1
check "storm, with many, of small stacks" storm +S 8:8 +SDcpu 8:8 +SDio 8 +sss 20 +sssdcpu 20 +sssdio 20
check "killed" dies_with_all erl -noinput -pa "$app/ebin" "$app" -run beam_host killed

finish
