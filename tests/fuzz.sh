#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
#     tests/fuzz.sh TIME     run each fuzz test for that long; stops at a failure

set -euo pipefail
cd "$(dirname "$0")/.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT

while IFS=': ' read -r file _ name; do
	echo "== $name"
	if ! go test "./${file%/*}" -run '^$' -fuzz "^$name\$" -fuzztime "$1" >"$log" 2>&1; then
		cat "$log"
		# What Go says when the time is up while an input is tried (golang/go#75804).
		if grep -q 'Failing input' "$log" || ! grep -q 'context deadline exceeded' "$log"; then
			exit 1
		fi
	fi
done < <(grep -o '^func Fuzz[A-Za-z]*' core/wire/*_test.go shepherd/*_test.go)
