#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Code blocks of a Markdown file.
#
#     tests/blocks.sh FILE                  list them: number, line, language
#     tests/blocks.sh FILE LANGUAGE N       print the Nth of a language
set -euo pipefail

awk -v language="${2:-}" -v wanted="${3:-0}" '
	/^```/ && !inside {
		inside = 1
		name = substr($0, 4)
		count[name]++
		if (language == "") print ++n, NR, name
		next
	}
	/^```$/ { inside = 0; next }
	inside && name == language && count[name] == wanted' "$1"
