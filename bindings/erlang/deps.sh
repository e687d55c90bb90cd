#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs what the Erlang and the Elixir binding need and this machine lacks, with
# apt-get where that is possible, and says what is missing where it is not.

set -euo pipefail

missing=()
packages=()
need() { # WHAT PACKAGE COMMAND...
	local what=$1 package=$2
	shift 2
	if ! "$@" >/dev/null 2>&1; then
		missing+=("$what")
		packages+=("$package")
	fi
}

# An application of OTP, without the second that starting a node takes.
application() {
	local root
	root=$(dirname "$(dirname "$(readlink -f "$(command -v erl)")")")
	compgen -G "$root/lib/$1-*/ebin/$1.app" || compgen -G "/usr/lib/erlang/lib/$1-*/ebin/$1.app"
}
header() {
	compgen -G "/usr/lib/erlang/usr/include/erl_nif.h" ||
		compgen -G "$(dirname "$(dirname "$(readlink -f "$(command -v erl)")")")/usr/include/erl_nif.h"
}

need "erl (OTP 25 or later)" erlang-base command -v erl
need erl_nif.h erlang-dev header
need eunit erlang-eunit application eunit
need dialyzer erlang-dialyzer command -v dialyzer
need edoc erlang-edoc application edoc
need "elixir (1.14 or later)" elixir command -v elixir
need rebar3 rebar3 command -v rebar3

if [[ ${#packages[@]} -gt 0 && $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
	apt-get update -q
	DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${packages[@]}"
	missing=()
fi
if [[ ${#missing[@]} -gt 0 ]]; then
	printf 'missing for Erlang and Elixir: %s\n' "${missing[@]}" >&2
	exit 1
fi
