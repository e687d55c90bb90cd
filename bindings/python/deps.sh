#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs what the Python binding is tested with, where it is missing. Packages
# of Python's come into a virtual environment below $BUILD, see run-tests.

set -euo pipefail

usable() {
	command -v python3 objdump >/dev/null &&
		python3 -c 'import ctypes, ensurepip, sys, venv; sys.exit(sys.version_info < (3, 9))' 2>/dev/null
}

usable && exit
if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
	apt-get update -q
	DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends python3 python3-venv binutils
fi
if ! usable; then
	echo "missing: python3, 3.9 or later, with venv, ensurepip and ctypes; objdump" >&2
	exit 1
fi
