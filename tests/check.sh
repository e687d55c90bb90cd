#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Formatting and static checks. Each prints a line; any output of a checker is
# a failure.

set -uo pipefail
cd "$(dirname "$0")/.." || exit

passed=0 failed=0 skipped=0

check() {
	local name=$1 output
	shift
	if output=$("$@" 2>&1) && [[ -z $output ]]; then
		echo "ok   $name"
		passed=$((passed + 1))
	else
		echo "FAIL $name"
		printf '%s\n' "$output"
		failed=$((failed + 1))
	fi
}

skip() {
	echo "skip $1: $2"
	skipped=$((skipped + 1))
}

tidy() { go mod tidy -diff; }
manuals() { for page in man/*.[1-8]; do groff -mdoc -ww -b -z -t "$page"; done; }
other_platform() { CGO_ENABLED=0 GOOS=$1 GOARCH=$2 go vet ./core/... ./shepherd/...; }

check gofmt gofmt -l capi core shepherd tests
check "go vet" go vet ./...
check "go mod tidy" tidy
check "go vet for linux/arm64" other_platform linux arm64
check "go vet for darwin/arm64" other_platform darwin arm64
if command -v clang-format >/dev/null; then
	check clang-format clang-format --dry-run -Werror capi/*.[ch] examples/*.c nrun/*.[ch] tests/*/*.[ch] tests/c/helpers/*.[ch] tests/bench/peers/*.c
else
	skip clang-format "not installed"
fi
if command -v shellcheck >/dev/null; then
	check shellcheck shellcheck -x tests/*.sh tests/scripts/*.sh tests/hosts/*.sh tests/bench/*.sh tests/vm/*.sh tests/vm/job tests/vm/nrun tests/vm/init examples/*.sh packaging/*.sh .ci/run
else
	skip shellcheck "not installed"
fi

if command -v mandoc >/dev/null; then
	check "manuals, by mandoc" mandoc -T lint -W warning man/*.[1-8]
elif command -v groff >/dev/null; then
	check "manuals, by groff" manuals
else
	skip manuals "neither mandoc nor groff is installed"
fi

echo "$passed passed, $failed failed, $skipped skipped"
[[ $failed == 0 ]]
