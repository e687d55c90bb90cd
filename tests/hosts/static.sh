#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# libnetrunner.a in a program of glibc, static and not.

# check() calls the functions, which shellcheck does not see.
# shellcheck disable=SC2317

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh disable=SC1091
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source-path=SCRIPTDIR source=archive.sh disable=SC1091
. "$HOSTS/archive.sh"

use_archive gcc "$BUILD"
check "only the functions of netrunner.h are visible" exports
for flags in -pie -no-pie -static -static-pie "-static -Wl,--gc-sections"; do
	check "a program linked with $flags" hello "$flags"
done
check "the shepherd is found beside the program, or in ../libexec/netrunner" shepherd_is_found -static
check "the shepherd is found, without -static" shepherd_is_found -pie
suites -static lifecycle streams identity

finish
