#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Node.js, by koffi: streams in libuv's loop, waits in its threads.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh disable=SC1091
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need node nodejs
export NETRUNNER_LIBRARY=$LIB/libnetrunner.so NODE_PATH=$BUILD/hosts/node/node_modules
unset NODE_OPTIONS

if ! node -e 'require("koffi")' 2>/dev/null; then
	need npm npm
	mkdir -p "$BUILD/hosts/node"
	t npm install --prefix "$BUILD/hosts/node" --no-audit --no-fund koffi@3 >"$WORK/npm" 2>&1 || :
	node -e 'require("koffi")' 2>/dev/null || give_up "no koffi: $(tail -n 1 "$WORK/npm")"
fi

host=(node --expose-gc "$HOSTS/node_host.js")
check "storm" t "${host[@]}" storm
check "killed" dies_with_all "${host[@]}" killed

finish
