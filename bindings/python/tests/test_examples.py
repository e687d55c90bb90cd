# SPDX-License-Identifier: Apache-2.0
"""The examples print what they say they print; so do those of the README."""

import glob
import os
import re
import subprocess
import sys

import pytest

from support import ENVIRONMENT

HERE = os.path.dirname(__file__)
EXAMPLES = sorted(glob.glob(os.path.join(HERE, "..", "examples", "*.py")))


def readme_blocks():
    with open(os.path.join(HERE, "..", "README.md")) as file:
        return re.findall(r"^```python\n(.*?)^```", file.read(), re.M | re.S)


def run(code, **options):
    done = subprocess.run(
        [sys.executable, "-W", "error", *code],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        **options,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("path", EXAMPLES, ids=os.path.basename)
def test_example(path):
    with open(path) as file:
        source = file.read()
    for module in ("trio", "anyio"):
        if f"import {module}\n" in source or f"netrunner.{module}" in source:
            pytest.importorskip(module, reason=f"{module} is not installed")
    expected = "".join(line[2:] for line in source.partition("# Output:\n")[2].splitlines(keepends=True))
    assert expected
    assert run([path]) == expected


def test_there_are_examples():
    assert len(EXAMPLES) >= 6


@pytest.mark.parametrize("number", range(len(readme_blocks())))
def test_readme(number, tmp_path):
    block = readme_blocks()[number]
    # What a block prints is said in comments behind the prints.
    expected = re.findall(r"print\(.*?\)  # (.*)$", block, re.M)
    assert run(["-c", block], cwd=tmp_path).splitlines() == expected


def test_readme_has_blocks():
    assert len(readme_blocks()) >= 4
