# SPDX-License-Identifier: Apache-2.0
import os

import pytest

import netrunner
from netrunner import PIPE, Cgroup
from netrunner.asyncio import create_subprocess_exec
from support import run


@pytest.fixture
def base():
    """The name of a fresh group below the mount point of cgroup v2."""
    with open("/proc/mounts") as file:
        mounts = [line.split()[1] for line in file if line.split()[2] == "cgroup2"]
    if not mounts:
        pytest.skip("cgroup v2 is not mounted")
    name = f"netrunner-test-{os.getpid()}"
    path = os.path.join(mounts[0], name)
    try:
        os.mkdir(path)
    except OSError as error:
        pytest.skip(f"no cgroup can be made: {error}")
    yield name, path
    assert [entry.name for entry in os.scandir(path) if entry.is_dir()] == []
    os.rmdir(path)


def test_a_fresh_group(base):
    name, path = base
    with netrunner.Popen("cat", stdin=PIPE, cgroup=name) as program:
        (group,) = (entry.name for entry in os.scandir(path) if entry.is_dir())
        assert program.cgroup_get("cgroup.procs").split() == [str(program.pid)]
        program.cgroup_set("cgroup.max.descendants", 3)
        assert program.cgroup_get("cgroup.max.descendants") == "3\n"
        with open(os.path.join(path, group, "cgroup.max.descendants")) as file:
            assert file.read() == "3\n"
        with pytest.raises(FileNotFoundError):
            program.cgroup_get("no.such.file")
        assert program.stats().processes == 1
    assert program.returncode == 0


def test_settings_come_first(base):
    name, _ = base
    cgroup = Cgroup(base=name, set={"cgroup.max.depth": 7})
    with netrunner.Popen("cat", stdin=PIPE, cgroup=cgroup) as program:
        assert program.cgroup_get("cgroup.max.depth") == "7\n"
    with pytest.raises(OSError, match=r"no\.such\.file"):
        netrunner.run("true", cgroup=Cgroup(base=name, set={"no.such.file": 1}))


def test_exactly_this_group(base):
    name, path = base
    with netrunner.Popen("cat", stdin=PIPE, cgroup=Cgroup(path=name)) as program:
        with open(os.path.join(path, "cgroup.procs")) as file:
            assert file.read().split() == [str(program.pid)]


def test_with_asyncio(base):
    async def main():
        program = await create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE, cgroup=base[0])
        assert program.cgroup_get("cgroup.procs").split() == [str(program.pid)]
        program.cgroup_set("cgroup.max.descendants", 5)
        await program.communicate()

    run(main())
