# SPDX-License-Identifier: Apache-2.0
"""A program that believes it is talking to somebody."""

from netrunner import Popen

code = 'test -t 0 && stty size; printf "name? "; read name; echo "hello, $name"'
with Popen(code, shell=True, pty=(40, 100), echo=False, text=True) as program:
    assert program.stdin is not None and program.stdout is not None
    print(program.stdout.readline(), end="")
    print(program.stdout.read(len("name? ")), end="")
    print("world", file=program.stdin, flush=True)
    print(program.stdout.readline(), end="")

# Output:
# 40 100
# name? hello, world
