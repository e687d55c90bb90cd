# SPDX-License-Identifier: Apache-2.0
"""The wheel, installed into a fresh environment, works there without anything else."""

import glob
import os
import re
import shutil
import subprocess
import sys
import zipfile

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
PROJECT = os.path.dirname(HERE)
BUILD = os.environ.get("NETRUNNER_BUILD", os.path.join(PROJECT, "..", "..", "build"))


def call(*args, **options):
    done = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, **options)
    assert done.returncode == 0, done.stdout
    return done.stdout


def clean_environment(**more):
    names = ("NETRUNNER_LIBRARY", "NETRUNNER_BUILD", "NETRUNNER_SHEPHERD", "PYTHONPATH", "VIRTUAL_ENV")
    return {**{name: value for name, value in os.environ.items() if name not in names}, **more}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("build", reason="the package build is not installed")
    out = tmp_path_factory.mktemp("wheel")
    environment = clean_environment(NETRUNNER_BUILD=os.path.abspath(BUILD))
    call(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), PROJECT, env=environment)
    (path,) = glob.glob(str(out / "*.whl"))
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    directory = tmp_path_factory.mktemp("fresh")
    call(sys.executable, "-m", "venv", str(directory), env=clean_environment())
    python = str(directory / "bin" / "python")
    call(python, "-m", "pip", "install", "--no-index", "--disable-pip-version-check", wheel, env=clean_environment())
    return python


def test_contents(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        for name in ("py.typed", "_lib/libnetrunner.so", "_lib/netrunner-shepherd", "asyncio.py", "anyio.py"):
            assert f"netrunner/{name}" in names
        assert not any("__pycache__" in name or "/tests/" in name for name in names)
        assert archive.getinfo("netrunner/_lib/netrunner-shepherd").external_attr >> 16 & 0o111
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        text = archive.read(metadata).decode()
        assert any("licenses/LICENSE" in name for name in names)
    assert "Requires-Python: >=3.9" in text and "License-Expression: Apache-2.0" in text
    assert not [line for line in text.splitlines() if line.startswith("Requires-Dist") and "extra ==" not in line]


def test_tag_says_which_glibc_is_needed(wheel):
    match = re.search(r"-py3-none-manylinux_2_(\d+)_(\w+)\.whl$", wheel)
    assert match and match[2] == os.uname().machine
    auditwheel = shutil.which("auditwheel", path=os.path.dirname(sys.executable))
    if auditwheel is None:
        pytest.skip("auditwheel is not installed")
    # The opinion of the tool that PyPI's rules come from.
    shown = call(auditwheel, "show", wheel)
    assert f"manylinux_2_{match[1]}_{match[2]}" in shown.replace("\n", " "), shown


def test_installed_into_a_fresh_environment(installed, tmp_path):
    code = """
import asyncio, os, sys, netrunner, netrunner.asyncio
assert "site-packages" in netrunner.__file__, netrunner.__file__
assert netrunner.run(["echo", "x"], stdout=netrunner.PIPE).stdout == b"x\\n"
async def main():
    program = await netrunner.asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
    assert await program.communicate(b"y") == (b"y", None)
asyncio.run(main())
with netrunner.Daemon(["sleep", "1000"]) as daemon:
    assert daemon.pid
with open(f"/proc/self/maps") as file:
    (library,) = {line.split()[-1] for line in file if "libnetrunner" in line}
assert library.startswith(os.path.dirname(netrunner.__file__)), library
print("works")
"""
    assert call(installed, "-W", "error", "-c", code, cwd=tmp_path, env=clean_environment()) == "works\n"


def test_it_is_typed_for_who_installs_it(installed, tmp_path):
    mypy = shutil.which("mypy", path=os.path.dirname(sys.executable))
    if mypy is None:
        pytest.skip("mypy is not installed")
    shutil.copy(os.path.join(HERE, "typed.py"), str(tmp_path / "typed.py"))
    call(
        mypy,
        "--strict",
        "--cache-dir",
        str(tmp_path),
        "--python-executable",
        installed,
        "typed.py",
        cwd=tmp_path,
        env=clean_environment(),
    )


def test_without_the_library_the_error_is_clear(tmp_path):
    code = "import netrunner"
    environment = clean_environment(NETRUNNER_LIBRARY="/no/such/library.so", PYTHONPATH=os.path.join(PROJECT, "src"))
    done = subprocess.run([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 1
    assert "ImportError: libnetrunner.so can't be loaded: /no/such/library.so: not there" in done.stderr
