#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs what building and testing need and this machine lacks, with apt-get
# where that is possible, and says what is missing where it is not.
#
#     tests/deps.sh [--optional]     also what tests are skipped without

set -euo pipefail

install_packages() {
	apt-get update -q
	DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
}

# command:package of Debian
tools=(gcc:gcc g++:g++ objcopy:binutils make:make script:bsdutils setpriv:util-linux)
missing=()
packages=()
extra=()
for tool in "${tools[@]}"; do
	if ! command -v "${tool%%:*}" >/dev/null; then
		missing+=("${tool%%:*}")
		packages+=("${tool#*:}")
	fi
done
# Static programs and the sanitizers are parts of packages, not commands.
if ! echo 'int main(void) { return 0; }' | gcc -static -x c - -o /dev/null 2>/dev/null; then
	missing+=("a static libc")
	packages+=(libc6-dev)
fi

# What lets more tests run, and is not needed.
optional=(pkg-config)
[[ ${1:-} != --optional ]] || optional+=(clang-format shellcheck python3 strace valgrind)
for tool in "${optional[@]}"; do
	command -v "$tool" >/dev/null || extra+=("$tool")
done
if [[ ${1:-} == --optional ]]; then
	for header in uv.h:libuv1-dev ev.h:libev-dev; do
		echo "#include <${header%:*}>" | gcc -E -x c -o /dev/null - 2>/dev/null || extra+=("${header#*:}")
	done
	pkg-config --exists glib-2.0 2>/dev/null || extra+=(libglib2.0-dev)
fi

# The version of Go that go.mod asks for; an older one can't even say so well.
wanted=$(sed -n 's/^go //p' "$(dirname "$0")/../go.mod")
if ! command -v go >/dev/null; then
	missing+=("go $wanted or later (https://go.dev/dl)")
fi

if [[ ${#packages[@]} -gt 0 && $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
	install_packages "${packages[@]}"
	missing=()
	command -v go >/dev/null || missing=("go $wanted or later (https://go.dev/dl)")
fi
if [[ ${#extra[@]} -gt 0 && $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
	install_packages "${extra[@]}" || for package in "${extra[@]}"; do
		install_packages "$package" || echo "not installed: $package"
	done
fi
if [[ ${#missing[@]} -gt 0 ]]; then
	printf 'missing: %s\n' "${missing[@]}" >&2
	exit 1
fi
