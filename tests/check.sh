#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Formatting and static checks. Each prints a line; any output of a checker is
# a failure. What only one language's users see is checked by its binding.

set -uo pipefail
cd "$(dirname "$0")/.." || exit

BUILD=${BUILD:-build}
CC=${CC:-gcc}
mkdir -p "$BUILD/tools"
tools=$(cd "$BUILD/tools" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
shopt -s nullglob

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

has() { command -v "$1" >/dev/null; }

# --- Go --------------------------------------------------------------------

tidy() { go mod tidy -diff; }
other_platform() { CGO_ENABLED=0 GOOS=$1 GOARCH=$2 go vet ./core/... ./shepherd/...; }

check gofmt gofmt -l capi core shepherd tests
check "go vet" go vet ./...
check "go mod tidy" tidy
check "go vet for linux/arm64" other_platform linux arm64
check "go vet for darwin/arm64" other_platform darwin arm64

# go_tool MODULE@VERSION: installs it, once.
go_tool() {
	local name=${1%@*} stamp
	name=$tools/${name##*/} stamp="$1 $(go version)"
	[[ $(cat "$name.version" 2>/dev/null) != "$stamp" ]] || return 0
	rm -f "$name.version"
	(cd "$work" && GOBIN=$tools GOFLAGS='' go install "$1") >"$work/install" 2>&1 &&
		echo "$stamp" >"$name.version"
}

# go_check MODULE@VERSION ARGUMENT...
go_check() {
	local name=${1%@*}
	name=${name##*/}
	if go_tool "$1"; then
		shift
		check "$name" "$tools/$name" "$@" ./...
	else
		skip "$name" "cannot be installed: $(tail -n 1 "$work/install")"
	fi
}

go_check honnef.co/go/tools/cmd/staticcheck@v0.8.2
go_check mvdan.cc/unparam@v0.0.0-20260823230713-2fa3d841b0c8
printf '%s\n' '(*os.File).Close' '(io.Closer).Close' golang.org/x/sys/unix.Close fmt.Fprint{f,ln} >"$work/unchecked"
go_check github.com/kisielk/errcheck@v1.30.0 -exclude "$work/unchecked"

vulnerabilities() {
	local output status
	if ! go_tool golang.org/x/vuln/cmd/govulncheck@v1.9.0; then
		skip govulncheck "cannot be installed: $(tail -n 1 "$work/install")"
		return
	fi
	output=$(timeout 300 "$tools/govulncheck" ./... 2>&1)
	status=$?
	if [[ $output == *"fetching vulnerabilities"* ]]; then
		skip govulncheck "its database is not to be had: $(tail -n 1 <<<"$output")"
	elif [[ $status == 3 ]] && ! grep -q '^ *Module:' <<<"$output"; then
		# It is not for us to say which Go is installed.
		skip govulncheck "$(go version | cut -d ' ' -f 3) has $(grep -c '^Vulnerability' <<<"$output") known ones that concern us: use a newer one"
	else
		check govulncheck test "$status" = 0
		[[ $status == 0 ]] || printf '%s\n' "$output"
	fi
}
vulnerabilities

# --- C ---------------------------------------------------------------------

if has clang-format; then
	check clang-format clang-format --dry-run -Werror capi/*.[ch] examples/*.c examples/*/*.[ch] nrun/*.[ch] tests/*/*.[ch] tests/c/helpers/*.[ch] tests/bench/peers/*.c
else
	skip clang-format "not installed"
fi

# What cgo tells the C files of the library about the functions in Go.
exports() {
	(cd capi && go tool cgo -objdir "$work/" -importpath libnetrunner/capi main.go)
}

analyze() {
	local file status=0 flags
	for file in "$@"; do
		flags=()
		case $file in
		capi/guest.c) flags=(-Wno-analyzer-malloc-leak) ;; # the runtime keeps it
		# A test that fails is left at any place, and crashes where it has no memory.
		tests/*) flags=(-Wno-analyzer-{possible-null-{dereference,argument},{malloc,file}-leak}) ;;
		esac
		"$CC" -std=gnu11 -O2 -Wall -Wextra -fanalyzer "${flags[@]}" -I include -I capi -I tests/c -I "$work" \
			-c -o /dev/null "$file" || status=1
	done
	return "$status"
}

if "$CC" -fanalyzer -x c -c -o /dev/null - </dev/null 2>/dev/null; then
	check "exports for C" exports
	check "gcc -fanalyzer" analyze capi/*.c examples/*.c examples/*/{job,poll,epoll}.c nrun/*.c tests/c/*.c tests/c/helpers/*.c tests/chaos/*.c
	if has erl; then
		include=$(erl -noshell -eval 'io:put_chars(code:root_dir()), halt().')/usr/include
		nif() { C_INCLUDE_PATH=$include analyze bindings/erlang/c_src/*.c; }
		check "gcc -fanalyzer, Erlang" nif
	else
		skip "gcc -fanalyzer, Erlang" "no Erlang"
	fi
else
	skip "gcc -fanalyzer" "$CC has none"
fi

if [[ -e $BUILD/libnetrunner.so ]]; then
	check "the ABI is what it was" tests/abi.sh
else
	skip "the ABI is what it was" "no $BUILD/libnetrunner.so"
fi

# --- Python, Ruby: beside the bindings ----------------------------------------

mapfile -t files < <(find examples packaging tests -name '*.py' 2>/dev/null)
venv=$BUILD/python/venv
if missing=$(bindings/python/venv "$venv" 2>&1) && [[ -x $venv/bin/ruff && -x $venv/bin/mypy ]]; then
	check ruff "$venv/bin/ruff" check --no-cache --quiet "${files[@]}"
	check mypy env MYPYPATH="$PWD/bindings/python/src" "$venv/bin/mypy" --cache-dir "$BUILD/python/mypy" --no-error-summary \
		--ignore-missing-imports --namespace-packages --explicit-package-bases "${files[@]}"
else
	skip "ruff, mypy" "not to be had: $(tail -n 1 <<<"$missing")"
fi
mapfile -t files < <(find examples tests -name '*.rb')
if has rubocop; then
	rubocop() { command rubocop --config bindings/ruby/.rubocop.yml --format quiet --cache-root "$work" "${files[@]}"; }
	check rubocop rubocop
else
	skip rubocop "not installed"
fi

# --- shell -----------------------------------------------------------------

if has shellcheck; then
	mapfile -t scripts < <(grep -rIlE '^#!.*[/ ](ba|da)?sh( |$)' --exclude-dir={.git,"$(basename "$BUILD")"} .)
	# SC2317: functions that check() and the like call.
	check shellcheck shellcheck -x -e SC2317 "${scripts[@]}" tests/*/lib.sh tests/vm/{job,nrun}
else
	skip shellcheck "not installed"
fi

# --- manuals ---------------------------------------------------------------

manuals() { for page in man/*.[1-8]; do groff -mdoc -ww -b -z -t "$page"; done; }
if has mandoc; then
	check "manuals, by mandoc" mandoc -T lint -W warning man/*.[1-8]
elif has groff; then
	check "manuals, by groff" manuals
else
	skip manuals "neither mandoc nor groff is installed"
fi

echo "$passed passed, $failed failed, $skipped skipped"
[[ $failed == 0 ]]
