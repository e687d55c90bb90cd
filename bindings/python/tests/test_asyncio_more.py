# SPDX-License-Identifier: Apache-2.0
"""What asyncio's create_subprocess_exec() lacks."""

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import threading
import weakref

import pytest

import netrunner
import netrunner.asyncio
from netrunner import Reason
from netrunner.asyncio import PIPE, create_subprocess_exec, create_subprocess_shell
from support import alive, auntil, descriptors, run, until

# Prints the process ids of a tree of three.
TREE = "echo $$; sleep 1000 & echo $!; setsid sleep 1000 & echo $!; "


async def pids_of(program):
    return [int(await program.stdout.readline()) for _ in range(3)]


def test_timeout_ends_the_tree(arun):
    async def main():
        program = await create_subprocess_shell(TREE + "wait", stdout=PIPE, timeout=0.3)
        pids = await pids_of(program)
        assert await program.wait() == -signal.SIGTERM
        assert program.outcome.reason is Reason.TIMEOUT
        assert not any(map(alive, pids))

    arun(main())


def test_cancelled_communicate_ends_the_tree(arun):
    async def main():
        program = await create_subprocess_shell(TREE + "wait", stdout=PIPE)
        pids = await pids_of(program)
        task = asyncio.ensure_future(program.communicate())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # At this very moment, not later.
        assert not any(map(alive, pids))
        assert program.returncode == -signal.SIGTERM and program.outcome.reason is Reason.KILLED
        # The usual lines after asyncio.wait_for(program.communicate()) still do no harm.
        program.kill()
        await program.communicate()

    arun(main())


def test_cancelled_communicate_kills_what_ignores_sigterm(arun):
    async def main():
        code = "trap '' TERM; " + TREE + "while :; do sleep 1000; done"
        program = await create_subprocess_shell(code, stdout=PIPE, kill_timeout=0.2)
        pids = await pids_of(program)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(program.communicate(), 0.05)
        assert not any(map(alive, pids)) and program.returncode == -signal.SIGKILL

    arun(main())


def test_a_second_cancellation_does_not_wait_for_the_grace(arun):
    async def main():
        code = "trap '' TERM; " + TREE + "while :; do sleep 1000; done"
        program = await create_subprocess_shell(code, stdout=PIPE, kill_timeout=1000)
        pids = await pids_of(program)
        task = asyncio.ensure_future(program.communicate())
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.sleep(0.05)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not any(map(alive, pids)) and program.returncode == -signal.SIGKILL

    arun(main())


def test_output_is_not_lost_by_a_cancellation(arun):
    async def main():
        program = await create_subprocess_shell("echo first; read x; echo never", stdin=PIPE, stdout=PIPE)
        task = asyncio.ensure_future(program.stdout.read())
        await auntil(lambda: program.stats().stdout_bytes == 6)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        program.kill()
        assert await program.communicate() == (b"first\n", None)

    arun(main())


def test_async_with(arun):
    async def main():
        async with await create_subprocess_shell("cat; exit 3", stdin=PIPE) as program:
            pass
        assert program.returncode == 3
        with pytest.raises(ZeroDivisionError):
            async with await create_subprocess_shell(TREE + "wait", stdout=PIPE) as program:
                pids = await pids_of(program)
                raise ZeroDivisionError
        assert not any(map(alive, pids))

        async def cancelled():
            async with await create_subprocess_shell(TREE + "wait", stdout=PIPE) as program:
                pids.extend(await pids_of(program))
                await program.wait()

        pids = []
        task = asyncio.ensure_future(cancelled())
        await auntil(lambda: len(pids) == 3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not any(map(alive, pids))

    arun(main())


def test_run(arun):
    async def main():
        done = await netrunner.asyncio.run(
            "cat; echo err >&2; exit 3", shell=True, input="é", text=True, encoding="utf-8", capture_output=True
        )
        assert isinstance(done, netrunner.CompletedProcess)
        assert (done.stdout, done.stderr, done.returncode, done.stats.stdin_bytes) == ("é", "err\n", 3, 2)
        with pytest.raises(subprocess.CalledProcessError) as info:
            await netrunner.asyncio.run("echo x; exit 3", shell=True, check=True, stdout=PIPE)
        assert info.value.output == b"x\n"
        with pytest.raises(subprocess.TimeoutExpired) as info:
            await netrunner.asyncio.run("echo x; sleep 1000", shell=True, stdout=PIPE, timeout=0.2)
        assert info.value.output == b"x\n"
        with pytest.raises(FileNotFoundError):
            await netrunner.asyncio.run(["no-such-program"])
        task = asyncio.ensure_future(netrunner.asyncio.run(["sleep", "1000"]))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    arun(main())


def test_output_limit(arun):
    async def main():
        with pytest.raises(netrunner.OutputLimitExceeded) as info:
            await netrunner.asyncio.run("printf 123456; sleep 1000", shell=True, capture_output=True, max_output=5)
        assert (info.value.output, info.value.stderr, info.value.limit) == (b"12345", b"", 5)
        program = await create_subprocess_exec("yes", stdout=PIPE, max_output=100_000)
        data = bytearray()
        with pytest.raises(netrunner.OutputLimitExceeded):
            while True:
                data += await program.stdout.read(1000)
        assert len(data) == 100_000
        await program.wait()
        assert program.outcome.reason is Reason.OUTPUT

    arun(main())


def test_terminal(arun):
    async def main():
        program = await create_subprocess_shell("stty size; read x; stty size; cat", pty=(11, 22), echo=False)
        assert await program.stdout.readline() == b"11 22\r\n"
        program.resize(33, 44)
        program.stdin.write(b"\n")
        assert await program.stdout.readline() == b"33 44\r\n"
        assert await program.communicate(b"typed\n") == (b"typed\r\n", None)
        assert program.returncode == 0
        program = await create_subprocess_exec("true", pty=True)
        assert await program.wait() == 0
        assert await program.stdout.read() == b""

    arun(main())


def test_terminal_in_raw_mode(arun):
    async def main():
        program = await create_subprocess_shell("stty raw -echo; echo ready; sleep 1000", pty=True)
        assert await program.stdout.readline() == b"ready\n"
        program.stdin.close()  # there is no end of file: no effect
        program.stop()
        assert await program.wait() == -signal.SIGTERM

    arun(main())


def test_end_of_file_waits_until_what_was_typed_is_read(arun):
    async def main():
        program = await create_subprocess_shell("read a; read go < fifo; cat > /dev/null; echo end", pty=True)
        program.kill()
        await program.communicate()
        data = b"".join(b"%0100d\n" % n for n in range(500))
        program = await create_subprocess_shell("sleep 0.1; cat", pty=True, echo=False)
        output, _ = await program.communicate(data)
        assert output == data.replace(b"\n", b"\r\n")

    arun(main())


def test_stats_and_outcome(arun):
    async def main():
        program = await create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        assert program.outcome is None
        assert program.stats().wall_time >= 0
        await program.communicate(b"12345")
        stats = program.stats()
        assert (stats.stdin_bytes, stats.stdout_bytes) == (5, 5) and stats.user_time is not None
        assert program.outcome == netrunner.Outcome(0, None, Reason.OWN)
        with pytest.raises(OSError):
            program.cgroup_get("memory.current")
        with pytest.raises(OSError):
            program.cgroup_set("memory.max", 1)

    arun(main())


def test_stats_count_what_is_read_in_any_way(arun):
    async def main():
        program = await create_subprocess_shell(
            "printf 12345; read x; printf 678 >&2", stdin=PIPE, stdout=PIPE, stderr=PIPE
        )
        await auntil(lambda: program.stats().stdout_bytes == 5)  # into the buffer
        assert await program.stdout.read(100) == b"12345"
        program.stdin.write(b"\n")
        assert await program.stderr.read(100) == b"678"
        assert await program.stdout.read(100) == b"" and await program.stderr.read(100) == b""
        await program.wait()
        stats = program.stats()
        assert (stats.stdout_bytes, stats.stderr_bytes, stats.reads) == (5, 3, 2)

    arun(main())


def test_deleted_while_it_runs(arun):
    async def main():
        # There is nobody left who could wait for a grace.
        code = "trap '' TERM; " + TREE + "while :; do sleep 1000; done"
        program = await create_subprocess_shell(code, stdin=PIPE, stdout=PIPE, kill_timeout=1000)
        pids = await pids_of(program)
        with pytest.warns(ResourceWarning, match="still running"):
            del program
            gc.collect()
        await auntil(lambda: not any(map(alive, pids)))

    arun(main())


def test_a_deleted_program_that_has_ended_is_no_warning(arun):
    async def main():
        program = await create_subprocess_exec("true", stdin=PIPE, stdout=PIPE)
        await program.wait()
        transport = weakref.ref(program._transport)
        del program
        gc.collect()
        await auntil(lambda: gc.collect() >= 0 and transport() is None)

    arun(main())


def test_a_loop_that_is_closed_before_the_program_ends(arun):
    kept = []

    async def main():
        kept.append(await create_subprocess_exec("sleep", "1000", stdin=PIPE, stdout=PIPE))

    arun(main())
    pid = kept[0].pid
    assert alive(pid)
    with pytest.warns(ResourceWarning):
        kept.clear()
        gc.collect()
    until(lambda: not alive(pid))


def test_from_any_thread(arun):
    results, errors = [], []

    async def main(number):
        data = str(number).encode() * 1000
        program = await create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        results.append((await program.communicate(data))[0] == data)

    def work(number):
        try:
            for _ in range(5):
                run(main(number))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and results == [True] * 40


def test_no_thread_and_one_watched_descriptor(arun):
    async def main():
        loop = asyncio.get_running_loop()
        added = []
        original = loop.add_reader
        try:
            loop.add_reader = lambda fd, *args: (added.append(fd), original(fd, *args))
        except AttributeError:  # of uvloop's it can't be replaced
            added = None
        threads = threading.active_count()
        programs = [await create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE) for _ in range(20)]
        assert threading.active_count() == threads
        assert added is None or len(added) == 1
        await asyncio.gather(*(program.communicate() for program in programs))

    arun(main())


def test_no_descriptor_is_left_in_a_running_loop(arun):
    async def main():
        async def one():
            program = await create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE, stderr=PIPE)
            await program.communicate(b"x")
            return program

        before = len(descriptors())
        kept = [await one() for _ in range(20)]
        assert len(descriptors()) == before
        assert {program.returncode for program in kept} == {0}

    arun(main())


def test_output_held_open_by_somebody_else(arun):
    async def main():
        program = await create_subprocess_shell("echo x; read line; echo y", stdin=PIPE, stdout=PIPE)
        holder = os.open(f"/proc/{program.pid}/fd/1", os.O_WRONLY)
        try:
            assert await asyncio.wait_for(program.communicate(b"\n"), 30) == (b"x\ny\n", None)
        finally:
            os.close(holder)

    arun(main())


def test_linger(arun):
    async def main():
        program = await create_subprocess_shell("(sleep 0.2; echo late) & echo $!", stdout=PIPE, linger=True)
        assert await program.wait() == 0
        pid = int(await program.stdout.readline())
        assert alive(pid)
        assert await program.stdout.read() == b"late\n"

    arun(main())


def test_the_shepherd_is_killed(arun):
    from support import stat

    async def main():
        program = await create_subprocess_shell("echo x; sleep 1000", stdout=PIPE, own_shepherd=True)
        await program.stdout.readline()
        os.kill(int(stat(program.pid)[1]), signal.SIGKILL)
        with pytest.raises(netrunner.ShepherdDied):
            await program.wait()
        assert program.outcome.reason is Reason.LOST
        await auntil(lambda: not alive(program.pid))
        with pytest.raises(netrunner.ShepherdDied):
            await program.communicate()

    arun(main())


def test_output_of_a_fast_program_does_not_starve_the_loop(arun):
    async def main():
        turns = 0

        async def count():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.ensure_future(count())
        async with await create_subprocess_exec("head", "-c", "50000000", "/dev/zero", stdout=PIPE) as program:
            size = 0
            while True:
                data = await program.stdout.read(65536)
                if not data:
                    break
                size += len(data)
        assert size == 50_000_000
        assert turns > 10
        counting.cancel()
        await asyncio.gather(counting, return_exceptions=True)

    arun(main())
