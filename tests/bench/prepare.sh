#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs the peers that `make bench` compares with, with apt-get where that is
# possible, and builds what is measured of each into $BUILD/bench. What can't be
# had is said, and is missing in the tables; it is no failure.

set -uo pipefail
cd "$(dirname "$0")/../.." || exit
root=$PWD
BUILD=$(realpath "${BUILD:-build}")
work=$BUILD/bench
log=$work/prepare.log
mkdir -p "$work/beam"
: >"$log"

# command or header : package of Debian
packages=()
for need in ruby:ruby node:nodejs erl:erlang-base elixir:elixir python3:python3 strace:strace; do
	command -v "${need%%:*}" >/dev/null || packages+=("${need#*:}")
done
[[ -e /usr/include/uv.h ]] || packages+=(libuv1-dev)
if [[ ${#packages[@]} -gt 0 && $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
	{
		apt-get update -q
		for package in "${packages[@]}"; do
			DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$package"
		done
	} >>"$log" 2>&1 </dev/null
fi

# peer NAME COMMAND...: that a peer can't be had is said, with the last line of why.
peer() {
	local name=$1
	shift
	"$@" >>"$log" 2>&1 </dev/null || echo "no $name: $(tail -n 1 "$log")"
}

# The peers: shellcheck does not see that they are called.
# shellcheck disable=SC2317
libuv() {
	"${CC:-gcc}" -O2 -std=gnu11 -I include -o "$work/uv" tests/bench/peers/uv.c tests/bench/proc.c \
		-luv
}

# shellcheck disable=SC2317
go_exec() {
	"${GO:-go}" build -trimpath -o "$work/goexec" ./tests/bench/peers/goexec
}

# shellcheck disable=SC2317
rust() {
	# The binding's build finds the library, cargo the rest.
	cd bindings/rust && CARGO_TARGET_DIR=$BUILD/rust NETRUNNER_LIB_DIR=$BUILD \
		cargo build -q --release -p netrunner-bench --bin peer
}

# shellcheck disable=SC2317
beam() {
	local part
	for part in erlang elixir; do
		mkdir -p "$work/beam/$part"
		cp -a "bindings/$part/"* "$work/beam/$part" || return
		rm -rf "$work/beam/$part"/{_build,ebin,priv}
	done
	cd "$work/beam/elixir" && NETRUNNER_INCLUDE=$root/include NETRUNNER_BUILD=$BUILD MIX_ENV=prod \
		MIX_HOME=$work/beam/home HEX_HOME=$work/beam/home LC_ALL=C.UTF-8 mix compile
}

peer libuv libuv
peer "Go's os/exec" go_exec
(peer "Rust" rust)
(peer "Erlang and Elixir" beam)
peer "uvloop" bindings/python/venv "$BUILD/python/venv"
command -v node >/dev/null || echo "no Node: not installed"
command -v ruby >/dev/null || echo "no Ruby: not installed"
