#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The documentation says what is so. Of README.md and all other Markdown files
# here:
#
#     c blocks       compile with the command that the README prints, and run;
#                    the README's prints what it is said to
#     sh blocks      run, in a tree like that after `make`; make and
#                    tests/run.sh only tell what they would do
#     console blocks are for another machine: their syntax is right
#     ini blocks     are for another program
#     text blocks    are pictures and output
#
# The files, headings, make targets and suites that are named exist. (The bindings' files
# are tested by the bindings, the blocks of docs/cgroups.md by tests/vm, and what
# nrun does by nrun.sh.)

# check() calls the functions, which shellcheck does not see.
# shellcheck disable=SC2317

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh disable=SC1091
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

blocks() { "$ROOT/tests/blocks.sh" "$@"; }

# Where the commands are run: what a reader has before him after `make`.
mkdir "$WORK/tree" "$WORK/tree/tests" "$WORK/bin"
for name in include examples docs; do
	ln -s "$ROOT/$name" "$WORK/tree/$name"
done
ln -s "$LIB" "$WORK/tree/build"
make -s -C "$ROOT" BUILD="$BUILD" "$BUILD/libnetrunner.a" >/dev/null
for name in tests asan libnetrunner.a; do
	[[ ! -e $BUILD/$name ]] || ln -s "$BUILD/$name" "$LIB/$name"
done
unset MFLAGS MAKELEVEL
export MAKEFLAGS='' REAL_MAKE ROOT
REAL_MAKE=$(command -v make)
cat >"$WORK/bin/make" <<'END'
#!/bin/sh
exec "$REAL_MAKE" -n -C "$ROOT" "$@"
END
cat >"$WORK/tree/tests/run.sh" <<'END'
#!/bin/sh
[ "$1" != --list ] || shift
"$ROOT/tests/run.sh" --list "$@" | grep .
END
printf '#!/bin/sh\nexec "$@"\n' >"$WORK/bin/sudo"
printf '#!/bin/sh\n' >"$WORK/bin/nrun"
chmod +x "$WORK"/bin/* "$WORK/tree/tests/run.sh"

# The README's compile command, and what the line after it says is printed:
#     cc ... hello.c ... -o hello
#     ./hello    # OUTPUT
shell=$(grep -A 1 '^cc .*hello\.c' "$ROOT/README.md" || :)
command=$(head -n 1 <<<"$shell")
wanted=$(sed -n 's/^\.\/hello *# *//p' <<<"$shell")
if [[ -z $command || -z $wanted ]]; then
	fail "README.md has a command and an output for its example" \
		"command '$command', output '$wanted'"
	finish
fi

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

is_short() {
	local lines
	lines=$(grep -c '[^[:space:]]' "$1")
	echo "$lines lines"
	((lines <= 32))
}

run_shell() {
	bash -n "$1"
	cd "$WORK/tree"
	PATH=$WORK/bin:$PATH t bash -euo pipefail "$1" </dev/null
}

known_language() { equal "$1" "c, sh, console, ini or text" language; }

# check_block FILE LANGUAGE N LINE
check_block() {
	local file=$1 language=$2 label="$1, line $4" block=$WORK/block.$2
	blocks "$ROOT/$file" "$language" "$3" >"$block"
	case $file:$language in
	README.md:c)
		check "$label: compiles as printed, prints $wanted" readme_example "$block"
		check "$label: is short" is_short "$block"
		;;
	docs/cgroups.md:c) check "$label: compiles" compile "$block" ;;
	*:c) check "$label: compiles and runs" compile_and_run "$block" ;;
	docs/cgroups.md:sh | *:console) check "$label: is shell" bash -n "$block" ;;
	README.md:sh)
		[[ ! -e $WORK/block.c ]] || cp "$WORK/block.c" "$WORK/tree/hello.c"
		check "$label: runs" run_shell "$block"
		;;
	*:sh) check "$label: runs" run_shell "$block" ;;
	*:text | *:ini) ;;
	*) check "$label: is of a language that is tested" known_language "$language" ;;
	esac
}

# The anchors of a file's headings, as GitHub makes them.
anchors() {
	awk '/^```/ { inside = !inside } !inside && /^#+ /' "$1" | sed 's/^#* //' |
		tr '[:upper:]' '[:lower:]' | sed 's/[^a-z0-9 _-]//g; s/ /-/g'
}

links_lead_somewhere() {
	local link path status=0
	while read -r link; do
		path=${link%%#*}
		if [[ -n $path && ! -e $(dirname "$1")/$path ]]; then
			echo "there is no $path"
			status=1
		elif [[ $link == *#* ]]; then
			[[ -z $path ]] && path=$1 || path=$(dirname "$1")/$path
			if ! anchors "$path" | grep -qFx -- "${link#*#}"; then
				echo "there is no heading for $link"
				status=1
			fi
		fi
	done < <(grep -oE '\]\([^):]+\)' "$1" | sed 's/^](//; s/)$//')
	return "$status"
}

# Whatever looks like a path of this repository.
paths_exist() {
	local path status=0
	while read -r path; do
		if ! compgen -G "$ROOT/$path" >/dev/null; then
			echo "there is no $path"
			status=1
		fi
	done < <(grep -oE '(^|[^A-Za-z0-9_./-])(capi|core|shepherd|include|examples|tests|docs|bindings|nrun|man|packaging)/[A-Za-z0-9_./*-]*' "$1" |
		sed 's/^[^a-z]//; s/[.]$//' | sort -u)
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
	done < <(grep -oE '([`]|^)make [a-z][a-z-]*' "$1" | sed 's/.*make //' | sort -u)
	return "$status"
}

# docs/protocol.md has all frames of the code, and its numbers.
protocol_is_the_codes() {
	local wire=$ROOT/core/wire/wire.go page=$ROOT/docs/protocol.md number=0 name status=0
	while read -r name; do
		number=$((number + 1))
		if ! grep -q "^| $name | $number |" "$page"; then
			echo "no row for $name, number $number"
			status=1
		fi
	done < <(sed -n '/^\tTypeHello /,/^)/s/^\tType\([A-Za-z]*\).*/\1/p' "$wire")
	[[ $number -gt 0 ]]
	equal "$(grep -c '^| [A-Z][a-z]* | [0-9]* |' "$page")" "$number" "the number of rows"
	grep -q "(now $(sed -n 's/^const Revision = //p' "$wire"))" "$page"
	grep -q "at most $(sed -n 's/^const MaxDescriptors = //p' "$wire")\." "$page"
	return "$status"
}

for file in "$ROOT"/*.md "$ROOT"/docs/*.md "$ROOT"/docs/decisions/*.md; do
	name=${file#"$ROOT"/}
	declare -A count=()
	while read -r _ line language; do
		language=${language:-none}
		count[$language]=$((${count[$language]:-0} + 1))
		check_block "$name" "$language" "${count[$language]}" "$line"
	done < <(blocks "$file")
	if [[ $name == README.md ]]; then
		check "README.md has one C program" equal "${count[c]:-0}" 1 "the number of them"
	fi
	check "$name: its links lead somewhere" links_lead_somewhere "$file"
	check "$name: the files that it names exist" paths_exist "$file"
	check "$name: the make targets that it names exist" targets_exist "$file"
done
check "docs/protocol.md is true to the code" protocol_is_the_codes

finish
