# SPDX-License-Identifier: Apache-2.0
import gc
import signal
import subprocess

import pytest

import netrunner
from support import PATIENCE, alive, until

anyio = pytest.importorskip("anyio", reason="anyio is not installed")

import netrunner.anyio  # noqa: E402
from netrunner.anyio import PIPE, open_process  # noqa: E402


@pytest.fixture(params=["asyncio", "uvloop", "trio"])
def arun(request):
    backend, options = request.param, {}
    if backend == "trio":
        pytest.importorskip("trio", reason="trio is not installed")
    if backend == "uvloop":
        pytest.importorskip("uvloop", reason="uvloop is not installed")
        backend, options = "asyncio", {"use_uvloop": True}

    def go(main):
        async def with_deadline():
            with anyio.fail_after(4 * PATIENCE):
                await main()

        anyio.run(with_deadline, backend=backend, backend_options=options)

    return go


def test_streams(arun):
    async def main():
        async with await open_process("cat; exit 3", shell=True) as program:
            assert isinstance(program, anyio.abc.Process) and alive(program.pid)
            assert program.returncode is None and program.outcome is None
            await program.stdin.send(b"hello")
            assert await program.stdout.receive() == b"hello"
            await program.stdin.aclose()
            assert [data async for data in program.stdout] == []
            with pytest.raises(anyio.EndOfStream):
                await program.stderr.receive()
            with pytest.raises(anyio.ClosedResourceError):
                await program.stdin.send(b"x")
            assert await program.wait() == 3
        assert program.returncode == 3
        assert program.stats().stdin_bytes == 5

    arun(main)


def test_both_directions_at_once(arun):
    async def main():
        data = bytes(range(256)) * 20_000
        done = await netrunner.anyio.run("cat; cat /dev/null >&2", shell=True, input=data, capture_output=True)
        assert done.stdout == data and done.stderr == b"" and done.returncode == 0
        done = await netrunner.anyio.run("cat", input="é", text=True, encoding="utf-8", stdout=PIPE)
        assert done.stdout == "é" and done.stderr is None

    arun(main)


def test_exceptions_of_run(arun):
    async def main():
        with pytest.raises(FileNotFoundError):
            await netrunner.anyio.run(["no-such-program"])
        with pytest.raises(subprocess.CalledProcessError):
            await netrunner.anyio.run(["false"], check=True)
        with pytest.raises(subprocess.TimeoutExpired) as info:
            await netrunner.anyio.run("echo x; sleep 1000", shell=True, capture_output=True, timeout=0.2)
        assert info.value.output == b"x\n"
        with pytest.raises(netrunner.OutputLimitExceeded) as info:
            await netrunner.anyio.run(["yes"], stdout=PIPE, max_output=1000)
        assert len(info.value.output) == 1000
        done = await netrunner.anyio.run("true", input=b"x" * 1_000_000)
        assert done.returncode == 0

    arun(main)


def test_cancellation_ends_the_tree(arun):
    async def main():
        pids = []
        with anyio.move_on_after(0.2) as scope:
            async with await open_process("echo $$; sleep 1000 & echo $!; wait", shell=True) as program:
                output = b""
                while output.count(b"\n") < 2:
                    output += await program.stdout.receive()
                pids += map(int, output.split())
                await program.wait()
        assert scope.cancelled_caught and len(pids) == 2 and not any(map(alive, pids))
        assert program.returncode == -signal.SIGTERM
        with anyio.move_on_after(0.05):
            await netrunner.anyio.run(["sleep", "1000"])
        with anyio.move_on_after(0):
            await open_process(["sleep", "1000"])

    arun(main)


def test_signals_and_waiters(arun):
    async def main():
        async with await open_process(["sleep", "1000"]) as program:
            codes = []

            async def wait():
                codes.append(await program.wait())

            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(wait)
                await anyio.lowlevel.checkpoint()
                program.terminate()
            assert codes == [-signal.SIGTERM] * 3
            program.kill()
            program.send_signal(0)

    arun(main)


def test_a_program_that_stops_reading(arun):
    async def main():
        async with await open_process("exec <&-; sleep 1000", shell=True) as program:
            with pytest.raises(anyio.BrokenResourceError):
                while True:
                    await program.stdin.send(b"x" * 100_000)
            program.kill()

    arun(main)


def test_terminal(arun):
    async def main():
        async with await open_process(
            "stty size; cat", shell=True, stdin=None, stdout=None, stderr=None, pty=(5, 6), echo=False
        ) as program:
            assert await program.stdout.receive() == b"5 6\r\n"
            program.resize(7, 8)
            await program.stdin.send(b"x\n")
            assert await program.stdout.receive() == b"x\r\n"

    arun(main)


def test_deleted_while_it_runs(arun):
    pids = []

    async def main():
        program = await open_process(["sleep", "1000"])
        pids.append(program.pid)
        with pytest.warns(ResourceWarning, match="still running"):
            del program
            gc.collect()

    arun(main)
    until(lambda: not alive(pids[0]))


def test_netrunner_asyncio_works_inside_anyio():
    async def main():
        done = await netrunner.asyncio.run(["echo", "x"], stdout=PIPE)
        assert done.stdout == b"x\n"

    import netrunner.asyncio

    anyio.run(main, backend="asyncio")
