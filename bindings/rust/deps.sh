#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Rust is not installed here: Debian's is too old. The crates are cargo's affair.

set -euo pipefail

missing=()
for tool in cargo rustfmt cargo-clippy; do
	command -v "$tool" >/dev/null || missing+=("$tool (https://rustup.rs)")
done
if ! command -v pkg-config >/dev/null && [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
	apt-get install -q -y --no-install-recommends pkg-config
fi
if [[ ${#missing[@]} -gt 0 ]]; then
	printf 'missing: %s\n' "${missing[@]}" >&2
	exit 1
fi
