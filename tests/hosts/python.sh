#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# CPython, by bindings/python: python3, and the oldest that the binding is for,
# whose handlers run on whatever stack a thread has (no SA_ONSTACK).

# check() calls the functions, which shellcheck does not see.
# shellcheck disable=SC2317

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh disable=SC1091
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

"$ROOT/bindings/python/deps.sh" >"$WORK/deps" 2>&1 || give_up "$(tail -n 1 "$WORK/deps")"

export PYTHONPATH=$ROOT/bindings/python/src NETRUNNER_LIBRARY=$LIB/libnetrunner.so
export PYTHONDONTWRITEBYTECODE=1 PYTHONFAULTHANDLER=1

pythons=(python3)
for python in python3.9 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.9.*/bin/python3; do
	"$python" -c 'import ctypes' 2>/dev/null || continue
	pythons+=("$python")
	break
done
for python in "${pythons[@]}"; do
	label=$("$python" -c 'import sys; print("python", sys.version.split()[0])')
	for host in storm loop fork prefork; do
		check "$label: $host" t "$python" "$HOSTS/python_host.py" "$host"
	done
	check "$label: killed" dies_with_all "$python" "$HOSTS/python_host.py" killed
done

finish
