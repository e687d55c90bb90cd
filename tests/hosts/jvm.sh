#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Java, by a JNI glue: its own signals (null pointers, ends of stacks, safepoints,
# dumps by SIGQUIT), collectors and threads, and programs at the same time.

# check() calls the functions, which shellcheck does not see.
# shellcheck disable=SC2317

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh disable=SC1091
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need javac openjdk-17-jdk-headless
unset JAVA_TOOL_OPTIONS _JAVA_OPTIONS
home=${JAVA_HOME:-$(dirname "$(dirname "$(readlink -f "$(command -v javac)")")")}
[[ -e $home/include/jni.h ]] || give_up "no $home/include/jni.h"

build() {
	"$CC" -O2 -Wall -Wextra -Werror -shared -fPIC -I "$ROOT/include" -I "$home/include" -I "$home/include/linux" \
		"$HOSTS/jvm_glue.c" -o "$LIB/libglue.so" -L "$LIB" -lnetrunner "-Wl,-rpath,$LIB"
	t "$home/bin/javac" -XDignore.symbol.file -d "$LIB" "$HOSTS/JvmHost.java"
}

# Its stdin is open until the dump has been seen.
storm() {
	local host line
	coproc t "$home/bin/java" "$@" -Xmx256m -cp "$LIB" JvmHost storm 2>&1
	host=$COPROC_PID
	: >"$WORK/output"
	while IFS= read -r -t "$LIMIT" line <&"${COPROC[0]}"; do
		printf '%s\n' "$line" | tee -a "$WORK/output"
		[[ $line != *"JNI global ref"* ]] || break # the dump's last part
	done
	printf '\n' >&"${COPROC[1]}" || :
	wait "$host"
	grep -q '^survived$' "$WORK/output"
	grep -q '^Full thread dump' "$WORK/output"
}

export GLUE=$LIB/libglue.so
check "it is built" build
[[ $failed == 0 ]] || finish
for collector in SerialGC G1GC ZGC; do
	check "storm, $collector" storm "-XX:+Use$collector"
done
check "storm, in code that is compiled at once" storm -Xcomp -XX:TieredStopAtLevel=1
check "storm, checked JNI" storm -Xcheck:jni
check "killed" dies_with_all "$home/bin/java" -Xmx256m -cp "$LIB" JvmHost killed

finish
