#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Compares what a compiled program sees of the library with what it saw of the
# releases before, which is in tests/abi/: symbols and prototypes, the layouts of
# structs, the values of constants. What is gone or has changed breaks compiled
# programs, and fails. What has been added fails until --update has recorded it.
#
#     tests/abi.sh [--update]

set -euo pipefail
cd "$(dirname "$0")/.."
BUILD=${BUILD:-build}
CC=${CC:-gcc}
export LC_ALL=C

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
library=$BUILD/libnetrunner.so
soname=$(readelf -dW "$library" | sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p')
stored=tests/abi/$soname

echo '#include <netrunner.h>' >"$work/empty.c"
compile=("$CC" -std=c11 -I include)

symbols() {
	readelf --dyn-syms -W "$library" | awk '$5 == "GLOBAL" && $7 != "UND" && $4 != "OBJECT" { print "symbol", $8 }'
}

# Without the names of parameters.
prototypes() {
	"${compile[@]}" -aux-info "$work/prototypes" -c -o "$work/empty.o" "$work/empty.c"
	sed -n 's/^.*\*\/ extern \(.*[ *]nr_[a-z_]* (.*)\);.*/function \1/p' "$work/prototypes"
}

# The version changes, but for its first part.
macros() {
	local name
	"${compile[@]}" -E -dM "$work/empty.c" |
		sed -n 's/^#define \(NR_[A-Z0-9_]*\) .*/\1/p' | grep -vE '^NR_(API|VERSION|VERSION_MINOR|VERSION_PATCH)$' >"$work/names"
	{
		echo '#include <netrunner.h>'
		echo '#include <stdio.h>'
		echo 'int main(void) {'
		while read -r name; do
			# shellcheck disable=SC2028 # for C
			echo "printf(\"constant $name %lld\\n\", (long long)($name));"
		done <"$work/names"
		echo '}'
	} >"$work/macros.c"
	"${compile[@]}" -o "$work/macros" "$work/macros.c"
	"$work/macros"
}

layouts() {
	"${compile[@]}" -g -fno-eliminate-unused-debug-types -c -o "$work/types.o" "$work/empty.c"
	go run ./tests/abi "$work/types.o" nr_
}

{
	echo "soname $soname"
	symbols
	prototypes
	macros
	layouts
} | sort -u >"$work/now"

status=0
listed=$(tr -s ' \t\n;' '\n' <capi/exports.map | grep '^nr_' | sort)
if ! diff <(sed -n 's/^symbol //p' "$work/now") - <<<"$listed"; then
	echo "the library's symbols are not those of capi/exports.map"
	status=1
fi
if ! diff <(sed -n 's/^function .*[ *]\(nr_[a-z_]*\) (.*/\1/p' "$work/now" | sort) - <<<"$listed"; then
	echo "the functions of netrunner.h are not those of capi/exports.map"
	status=1
fi

if [[ ! -e $stored ]]; then
	[[ ${1:-} == --update ]] || { echo "there is no $stored"; exit 1; }
	: >"$stored"
fi
gone=$(comm -23 "$stored" "$work/now")
added=$(comm -13 "$stored" "$work/now")
if [[ -n $gone ]]; then
	echo "This breaks compiled programs; it takes another NR_VERSION_MAJOR. Gone or changed:"
	echo "$gone"
	echo "Now there is:"
	echo "$added"
	status=1
elif [[ ${1:-} == --update ]]; then
	cp "$work/now" "$stored"
elif [[ -n $added ]]; then
	echo "This has been added; record it with tests/abi.sh --update:"
	echo "$added"
	status=1
fi
exit "$status"
