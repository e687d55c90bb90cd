#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# What the two binaries look like from outside, and that the header compiles
# everywhere: the part of the ABI that a linker sees.

# check() calls the functions, which shellcheck does not see.
# shellcheck disable=SC2317

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh disable=SC1091
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

header=$ROOT/include/netrunner.h
so=$BUILD/libnetrunner.so
shepherd=$BUILD/netrunner-shepherd
strict=(-Wall -Wextra -Werror -pedantic)

# The compiler itself reads the header, so comments and line breaks play no
# part: NR_API has become an attribute, and each declaration ends with ;.
declared() {
	"$CC" -E -P "$header" | tr '\n' ' ' | tr ';' '\n' |
		sed -n 's/.*visibility("default").* \**\(nr_[a-z0-9_]*\) *(.*/\1/p' |
		sort
}

exported() {
	# Without the version node, which is a symbol of type A.
	nm -D --defined-only "$so" |
		awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort
}

header_is_understood() {
	equal "$(wc -l <"$WORK/declared")" "$(grep -c '^NR_API' "$header")" \
		"the number of declarations found"
}

exports_are_the_header() {
	diff -u --label "declared in netrunner.h" --label "exported" \
		"$WORK/declared" "$WORK/exported"
}

# An undeclared nr_ name in a macro's disguise would be a hole in the above.
all_functions_are_exported() {
	"$CC" -E -P "$header" | grep -o 'nr_[a-z0-9_]* *(' | tr -d ' (' |
		sort -u | diff -u - "$WORK/declared"
}

soname() {
	equal "$(readelf -dW "$so" | sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p')" \
		libnetrunner.so.0 SONAME
	test "$BUILD/libnetrunner.so.0" -ef "$so"
}

nodelete() {
	readelf -dW "$so" | grep -E '\(FLAGS_1\).*NODELETE'
}

no_executable_stack() {
	readelf -lW "$1" | awk '
		$1 == "GNU_STACK" { seen = 1; print; if ($7 ~ /E/) exit 1 }
		END { if (!seen) { print "no GNU_STACK"; exit 1 } }'
}

no_text_relocations() {
	equal "$(readelf -dW "$so" | grep -c TEXTREL)" 0 "TEXTREL entries"
}

static_shepherd() {
	equal "$(readelf -lW "$shepherd" | grep -c INTERP)" 0 "INTERP entries"
	equal "$(readelf -dW "$shepherd" | grep -c NEEDED)" 0 "NEEDED entries"
	test -x "$shepherd"
}

# Every function by its address: what is declared can also be linked.
use_everything() {
	printf '#include <netrunner.h>\n'
	printf 'typedef void (*fn)(void);\n'
	printf 'static const fn all[] = {\n'
	sed 's/.*/\t(fn)&,/' "$WORK/declared"
	printf '};\n'
	printf 'int main(void)\n{\n'
	printf '\treturn nr_version() == 0 || all[0] == 0;\n}\n'
}

compiles_and_links() {
	local compiler=$1 std=$2 ext=$3
	use_everything >"$WORK/all.$ext"
	"$compiler" "-std=$std" "${strict[@]}" -I "$ROOT/include" \
		"$WORK/all.$ext" -L "$LIB" -lnetrunner "-Wl,-rpath,$LIB" \
		-o "$WORK/all-$std"
	t "$WORK/all-$std"
}

versions_agree() {
	cat >"$WORK/version.c" <<-'END'
		#include <netrunner.h>
		#include <stdio.h>
		#include <string.h>
		int main(void)
		{
			char text[32];
			snprintf(text, sizeof text, "%d.%d.%d", NR_VERSION_MAJOR,
				 NR_VERSION_MINOR, NR_VERSION_PATCH);
			printf("%s, library %s\n", text, nr_version_string());
			return nr_version() != NR_VERSION ||
			       strcmp(text, nr_version_string()) != 0;
		}
	END
	"$CC" "${strict[@]}" -I "$ROOT/include" "$WORK/version.c" -L "$LIB" \
		-lnetrunner "-Wl,-rpath,$LIB" -o "$WORK/version"
	t "$WORK/version"
	equal "$(cd "$ROOT" && sed -n 's/^## \[\([0-9.]*\)\].*/\1/p' CHANGELOG.md |
		head -n 1)" "$("$WORK/version" | sed 's/,.*//')" \
		"the newest version in CHANGELOG.md"
}

declared >"$WORK/declared"
exported >"$WORK/exported"

check "the header's declarations are all found" header_is_understood
check "every function of the header is NR_API" all_functions_are_exported
check "exactly the header's functions are exported" exports_are_the_header
check "SONAME is libnetrunner.so.0" soname
check "the library is never unloaded" nodelete
check "the library has no executable stack" no_executable_stack "$so"
check "the library has no text relocations" no_text_relocations
check "the shepherd is statically linked" static_shepherd
check "the shepherd has no executable stack" no_executable_stack "$shepherd"
for std in c99 c11 c17; do
	check "the header compiles and links as $std" \
		compiles_and_links "$CC" "$std" c
done
if command -v "$CXX" >/dev/null; then
	for std in c++11 c++17; do
		check "the header compiles and links as $std" \
			compiles_and_links "$CXX" "$std" cc
	done
else
	skip "the header compiles as C++" "no $CXX"
fi
check "header, library and changelog have one version" versions_agree

finish
