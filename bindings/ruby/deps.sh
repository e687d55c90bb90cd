#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Ruby, and what its tests use: minitest, the gem async, rubocop. RBS comes with
# Ruby.

set -euo pipefail

missing() {
	command -v ruby >/dev/null || echo ruby
	command -v gem >/dev/null || echo ruby
	ruby -e 'require "minitest"' 2>/dev/null || echo ruby-minitest
	ruby -e 'require "async"' 2>/dev/null || echo ruby-async
	command -v rubocop >/dev/null || echo rubocop
}

mapfile -t packages < <(missing | sort -u)
[[ ${#packages[@]} -gt 0 ]] || exit 0
if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
	apt-get update -q
	DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${packages[@]}"
	exit
fi
printf 'missing: %s\n' "${packages[@]}" >&2
# Without the others their tests are skipped.
command -v ruby >/dev/null && ruby -e 'require "minitest"'
