# SPDX-License-Identifier: Apache-2.0
"""What _library.py says is what netrunner.h says."""

import ctypes
import os
import re
import shutil
import subprocess

import pytest

from netrunner import _library as lib

INCLUDE = os.path.join(os.path.dirname(__file__), "..", "..", "..", "include")
STRUCTURES = {
    "nr_stdio": lib.Stdio,
    "nr_fdmap": lib.Fdmap,
    "nr_rlimit": lib.Rlimit,
    "nr_options": lib.Options,
    "nr_outcome": lib.Outcome,
    "nr_statistics": lib.Statistics,
}
NAMES = [
    *("STDIN STDOUT STDERR EXIT STDIO_AUTO STDIO_PIPE STDIO_NULL STDIO_INHERIT STDIO_FD STDIO_STDOUT").split(),
    *("PTY PTY_NOECHO SESSION ASYNC LINGER OWN_SHEPHERD PID_NAMESPACE NO_NEW_PRIVS").split(),
    *("SET_UID SET_GID SET_GROUPS SET_UMASK SET_NICE KILL_NOW").split(),
]


@pytest.fixture(scope="module")
def header():
    with open(os.path.join(INCLUDE, "netrunner.h")) as file:
        return file.read()


def compiled(tmp_path, lines):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    body = "\n".join(lines)
    source = f"#include <netrunner.h>\n#include <stdio.h>\nint main(void)\n{{\n{body}\nreturn 0;\n}}\n"
    program = tmp_path / "layout"
    subprocess.run([compiler, "-x", "c", "-", "-I", INCLUDE, "-o", str(program)], input=source, text=True, check=True)
    out = subprocess.run([str(program)], stdout=subprocess.PIPE, text=True, check=True).stdout
    return dict(line.split("=") for line in out.splitlines())


def test_structures_have_the_layout_of_the_header(tmp_path):
    lines, expected = [], {}
    for name, structure in STRUCTURES.items():
        lines.append(f'printf("{name}=%zu\\n", sizeof({name}));')
        expected[name] = str(ctypes.sizeof(structure))
        for field in structure._fields_:
            c_field = field[0].rstrip("_")
            lines.append(f'printf("{name}.{c_field}=%zu\\n", offsetof({name}, {c_field}));')
            expected[f"{name}.{c_field}"] = str(getattr(structure, field[0]).offset)
    assert compiled(tmp_path, lines) == expected


def test_constants_are_those_of_the_header(tmp_path, header):
    lines = [f'printf("{name}=%lld\\n", (long long)NR_{name});' for name in NAMES]
    assert compiled(tmp_path, lines) == {name: str(getattr(lib, name)) for name in NAMES}
    major, minor = (int(re.search(rf"#define NR_VERSION_{part} (\d+)", header)[1]) for part in ("MAJOR", "MINOR"))
    assert lib.VERSION == (major, minor)


def test_reasons_are_those_of_the_header(header):
    from netrunner import Reason

    found = {name: int(number) for name, number in re.findall(r"NR_REASON_(\w+) = (\d+)", header)}
    assert found == {reason.name: reason.value for reason in Reason if reason is not Reason.LOST}


def test_every_function_is_there(header):
    functions = set(re.findall(r"^NR_API [^;(]*?\b(nr_\w+)\(", header, re.M))
    assert len(functions) > 15
    # nr_close_stdin(p) is nr_close(p, NR_STDIN).
    for name in functions - {"nr_close_stdin"}:
        assert hasattr(lib, name[3:]), name
