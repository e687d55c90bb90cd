# SPDX-License-Identifier: Apache-2.0
"""Popen: a conversation with a program, in a script."""

from netrunner import PIPE, Popen

with Popen(["sed", "-u", "s/^/> /"], stdin=PIPE, stdout=PIPE, text=True, bufsize=1) as program:
    assert program.stdin is not None and program.stdout is not None
    for line in ("one", "two"):
        print(line, file=program.stdin)
        print(program.stdout.readline(), end="")

stats = program.stats()
print("exit", program.returncode, "after", stats.stdin_bytes, "bytes in and", stats.stdout_bytes, "out")

# Output:
# > one
# > two
# exit 0 after 8 bytes in and 12 out
