#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The documentation says what is so: every complete C program in README.md and
# docs/*.md compiles with the command that the README prints, and runs; the
# README's prints what it is said to; the files and make targets it names exist.

# check() calls the functions, which shellcheck does not see.
# shellcheck disable=SC2317

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh disable=SC1091
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# Where the commands are run: what a reader has before him after `make`.
mkdir "$WORK/tree"
ln -s "$ROOT/include" "$WORK/tree/include"
ln -s "$LIB" "$WORK/tree/build"

# Writes each ```LANGUAGE block of a file to PREFIX.1, PREFIX.2, ...
blocks() {
	local file=$1 language=$2 prefix=$3
	awk -v open="\`\`\`$language" -v prefix="$prefix" '
		$0 == open { n++; inside = 1; printf "" >(prefix "." n); next }
		$0 == "```" { inside = 0 }
		inside { print >(prefix "." n) }' "$file"
}

# The README's compile command, and what the line after it says is printed:
#     cc ... hello.c ... -o hello
#     ./hello    # OUTPUT
blocks "$ROOT/README.md" sh "$WORK/shell"
command=$(cat "$WORK"/shell.* | sed -n '/^cc .*hello\.c/{p;q;}')
wanted=$(cat "$WORK"/shell.* | sed -n 's/^\.\/hello *# *//p')

compile() {
	cp "$1" "$WORK/tree/hello.c"
	cd "$WORK/tree"
	rm -f hello
	t bash -euc "$command"
	# Nobody should copy a program that earns him warnings.
	t bash -euc "$command -Wall -Wextra -Werror"
}

compile_and_run() {
	compile "$1"
	t ./hello </dev/null
}

readme_example() {
	local got
	compile "$1"
	got=$(t ./hello </dev/null)
	equal "$got" "$wanted" "what it printed"
}

readme_is_short() {
	local lines
	lines=$(grep -c '[^[:space:]]' "$1")
	echo "$lines lines"
	((lines <= 32))
}

names_exist() {
	local path status=0
	# Targets of links, and whatever looks like a path of this repository.
	while read -r path; do
		if [[ ! -e $ROOT/$path ]]; then
			echo "there is no $path"
			status=1
		fi
	done < <(
		grep -oE '\]\([^)#:]+\)' "$ROOT/README.md" | tr -d ']()'
		grep -oE '\b(capi|core|shepherd|include|examples|tests|docs|nrun|man|packaging)/[A-Za-z0-9_./-]*' \
			"$ROOT/README.md" | sed 's/[.]$//'
	)
	return "$status"
}

targets_exist() {
	local target status=0
	# `make demo` in a sentence, or at the beginning of a line of a block.
	while read -r target; do
		if ! grep -qE "^([a-z-]+ )*$target( [a-z-]+)*:" "$ROOT/Makefile" "$ROOT"/*/*.mk "$ROOT"/bindings/*/*.mk; then
			echo "there is no target $target"
			status=1
		fi
	done < <(grep -oE '([`]|^)make [a-z][a-z-]*' "$ROOT/README.md" |
		sed 's/.*make //' | sort -u)
	return "$status"
}

if [[ -z $command || -z $wanted ]]; then
	fail "README.md has a command and an output for its example" \
		"command '$command', output '$wanted'"
	finish
fi

found=0
for file in "$ROOT"/README.md "$ROOT"/docs/*.md; do
	[[ -e $file ]] || continue
	name=${file#"$ROOT"/}
	rm -f "$WORK"/block.*
	blocks "$file" c "$WORK/block"
	for block in "$WORK"/block.*; do
		[[ -e $block ]] || continue
		grep -qE '\bmain\(' "$block" || continue
		label="$name, C program ${block##*.}"
		if [[ $name == README.md ]]; then
			found=$((found + 1))
			check "$label: compiles as printed, prints $wanted" \
				readme_example "$block"
			check "$label: is short" readme_is_short "$block"
		elif [[ $name == docs/cgroups.md ]]; then
			# It needs root and controllers: tests/vm runs it.
			check "$label: compiles" compile "$block"
		else
			check "$label: compiles and runs" compile_and_run "$block"
		fi
	done
done
if [[ $found -ne 1 ]]; then
	fail "README.md has one C program" "it has $found"
fi

check "the files that README.md names exist" names_exist
if [[ -e $ROOT/Makefile ]]; then
	check "the make targets that README.md names exist" targets_exist
else
	skip "the make targets that README.md names exist" "no Makefile"
fi

finish
