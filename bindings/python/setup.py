# SPDX-License-Identifier: Apache-2.0
"""What pyproject.toml can't say: the native files, and the tag of the wheel.

They are taken from $NETRUNNER_BUILD, by default the directory that make builds
into. What is built in between goes there, too.
"""

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:
    from wheel.bdist_wheel import bdist_wheel

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
NATIVE = Path(os.environ.get("NETRUNNER_BUILD") or ROOT / "build").resolve()
FILES = ("libnetrunner.so", "netrunner-shepherd")


def version():
    header = (ROOT / "include" / "netrunner.h").read_text()
    return ".".join(re.findall(r"^#define NR_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", header, re.M))


def manylinux():
    """The platform tag that says which glibc the library needs (PEP 600)."""
    symbols = subprocess.run(
        ["objdump", "-T", str(NATIVE / "libnetrunner.so")], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    # 2.17 is what every installer that knows the tag may assume.
    minor = max([17, *(int(n) for n in re.findall(r"GLIBC_2\.(\d+)", symbols))])
    return f"manylinux_2_{minor}_{platform.machine()}"


class BuildPy(build_py):
    def run(self):
        super().run()
        target = Path(self.build_lib) / "netrunner" / "_lib"
        target.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            if not (NATIVE / name).is_file():
                raise SystemExit(f"{NATIVE / name} is not there: run make, or set NETRUNNER_BUILD")
            shutil.copy(str(NATIVE / name), str(target / name))
            (target / name).chmod(0o755)


class BdistWheel(bdist_wheel):
    def get_tag(self):
        return "py3", "none", manylinux()


class NativeDistribution(Distribution):
    def has_ext_modules(self):
        return True


options = {}
if NATIVE.is_dir() and os.access(str(NATIVE), os.W_OK):
    scratch = NATIVE / "python"
    scratch.mkdir(exist_ok=True)
    options = {"build": {"build_base": str(scratch / "build")}, "egg_info": {"egg_base": str(scratch)}}

setup(
    version=version(),
    distclass=NativeDistribution,
    cmdclass={"build_py": BuildPy, "bdist_wheel": BdistWheel},
    options=options,
)
