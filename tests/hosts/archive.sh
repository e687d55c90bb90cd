# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What the scripts beside this check of libnetrunner.a.

# use_archive COMPILER BUILD: $archive, and what it is compiled with.
use_archive() {
	compiler=$1
	make -s -C "$ROOT" CC="$1" BUILD="$2" static >"$WORK/make" 2>&1 || {
		cat "$WORK/make"
		fail "make static CC=$1" "see above"
		finish
	}
	archive=$2/libnetrunner.a
}

exports() {
	grep -o 'nr_[a-z_]*' "$ROOT/capi/exports.map" | sort >"$WORK/wanted"
	nm -g --defined-only "$archive" | awk 'NF == 3 { print $3 }' | sort | diff -u "$WORK/wanted" -
}

# link SOURCE PROGRAM FLAG...: -Werror would be about the libc's own warnings.
link() {
	local source=$1 program=$2
	shift 2
	"$compiler" -std=gnu11 -O2 -g -I "$ROOT/include" -I "$ROOT/tests/c" "$source" -o "$program" "$@"
}

# The README's example, as its reader would compile it.
hello() {
	local flags
	read -ra flags <<<"$1"
	awk '/^```/ { inside = $1 == "```c"; next } inside' "$ROOT/README.md" >"$WORK/hello.c"
	link "$WORK/hello.c" "$LIB/hello" "${flags[@]}" "$archive"
	equal "$(t "$LIB/hello")" "HELLO, WORLD" "its output"
}

# Wherever the program is called from, and by whatever name.
shepherd_is_found() {
	local place
	hello "$1"
	for place in prefix/bin prefix/libexec/netrunner; do
		rm -rf "$WORK/prefix"
		mkdir -p "$WORK/prefix/bin" "$WORK/$place"
		cp "$LIB/hello" "$WORK/prefix/bin"
		cp "$LIB/netrunner-shepherd" "$WORK/$place"
		equal "$(cd / && PATH=$WORK/prefix/bin:$PATH t hello)" "HELLO, WORLD" "by PATH, $place"
		equal "$(cd / && exec -a no/such/name "$WORK/prefix/bin/hello")" "HELLO, WORLD" "by another name, $place"
	done
	rm "$WORK/prefix/libexec/netrunner/netrunner-shepherd"
	status 1 t "$WORK/prefix/bin/hello" 2>"$WORK/stderr"
	equal "$(cat "$WORK/stderr")" \
		"netrunner-shepherd: neither in $WORK/prefix/bin nor in $WORK/prefix/bin/../libexec/netrunner" "its words"
}

# suites FLAG NAME...: the C tests of those names, each counted.
suites() {
	local flag=$1 name counts support status
	shift
	support=("$ROOT"/tests/c/{check,proc,support}.c)
	make -s -C "$ROOT" BUILD="$BUILD" "$BUILD/tests/testprog" "$BUILD/tests/hostile"
	cp "$BUILD"/tests/{testprog,hostile} "$LIB"
	for name in "$@"; do
		if ! link "$ROOT/tests/c/test_$name.c" "$LIB/test_$name" "${support[@]}" "$flag" "${libraries[@]-$archive}" \
			>"$WORK/log" 2>&1; then
			fail "test_$name $flag" "is not linked: $(cat "$WORK/log")"
			continue
		fi
		status=0
		timeout -k 10 300 "$LIB/test_$name" >"$WORK/log" 2>&1 || status=$?
		counts=$(grep -E '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' "$WORK/log" | tail -n 1) || :
		read -r p _ f _ s _ <<<"${counts:-0 passed, 0 failed, 0 skipped}"
		passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
		grep '^skip ' "$WORK/log" || :
		if [[ $status != 0 ]]; then
			[[ $f != 0 ]] || failed=$((failed + 1))
			cat "$WORK/log"
		fi
		echo "ok    test_$name $flag: ${counts:-exit status $status}"
	done
}
