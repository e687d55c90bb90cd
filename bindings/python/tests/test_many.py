# SPDX-License-Identifier: Apache-2.0
import asyncio
import errno
import os
import resource
import threading

import pytest

import netrunner
from netrunner.asyncio import PIPE, create_subprocess_exec
from support import descriptors, host_output

PROGRAMS = 1000


@pytest.fixture
def descriptor_limit():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    def set_soft(soft):
        if before[1] != resource.RLIM_INFINITY and before[1] < soft:
            pytest.skip(f"the hard limit of descriptors is {before[1]}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))

    yield set_soft
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_thousand_at_once_in_one_loop(arun, descriptor_limit):
    descriptor_limit(4 * PROGRAMS + 500)

    async def one(number, running, everybody):
        program = await create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        running.append(program)
        if len(running) == PROGRAMS:
            everybody.set()
        await everybody.wait()
        data = b"%d" % number * 100
        assert await program.communicate(data) == (data, None)
        assert program.returncode == 0

    async def main():
        running, everybody = [], asyncio.Event()
        threads = threading.active_count()
        tasks = [asyncio.ensure_future(one(n, running, everybody)) for n in range(PROGRAMS)]
        await everybody.wait()
        assert threading.active_count() == threads
        assert sum(program.returncode is None for program in running) == PROGRAMS
        await asyncio.gather(*tasks)

    arun(main())


def test_the_limit_of_descriptors_is_a_clear_error(descriptor_limit):
    async def main():
        programs = []
        try:
            with pytest.raises(OSError) as info:
                for _ in range(200):
                    programs.append(await create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE, stderr=PIPE))
            assert info.value.errno == errno.EMFILE
            assert "too many open files" in str(info.value) and "RLIMIT_NOFILE" in str(info.value)
            # Those that run are not affected.
            assert 5 < len(programs) < 200
            for program in programs:
                assert await program.communicate(b"x") == (b"x", b"")
        finally:
            descriptor_limit(1000)

    descriptor_limit(max(descriptors()) + 100)
    # Not in debug mode, which reads source files for its tracebacks.
    asyncio.run(main())
    descriptor_limit(len(descriptors()) + 50)
    taken = []
    with pytest.raises(OSError):
        while True:
            taken.append(os.dup(0))
    with pytest.raises(OSError, match="RLIMIT_NOFILE"):
        netrunner.run("cat", input=b"x", capture_output=True)
    for number in taken:
        os.close(number)
    assert netrunner.run("cat", input=b"x", capture_output=True).stdout == b"x"


def test_many_one_after_the_other_leak_nothing():
    output = host_output(
        """
        import asyncio, gc, netrunner, os, resource
        import netrunner.asyncio
        def state():
            gc.collect()
            return len(os.listdir("/proc/self/fd"))
        async def main():
            async def one():
                return await netrunner.asyncio.run("cat", input=b"x", capture_output=True)
            await one()
            before = state()
            for _ in range(20):
                await asyncio.gather(*(one() for _ in range(20)))
            print(state() == before)
        asyncio.run(main())
        before = state()
        for _ in range(200):
            netrunner.run("cat", input=b"x", capture_output=True)
        print(state() == before)
        """
    )
    assert output.split() == ["True", "True"]
