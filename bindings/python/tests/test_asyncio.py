# SPDX-License-Identifier: Apache-2.0
"""What asyncio's create_subprocess_exec() does, this does: on asyncio's loop and on uvloop."""

import asyncio
import os
import signal
import sys

import pytest

from netrunner.asyncio import (
    DEVNULL,
    PIPE,
    STDOUT,
    create_subprocess_exec,
    create_subprocess_shell,
    subprocess_exec,
    subprocess_shell,
)
from support import alive, auntil, python

BLOCKED = ["sleep", "1000"]


def test_streams_of_the_standard_library(arun):
    async def main():
        program = await create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        assert isinstance(program, asyncio.subprocess.Process)
        assert isinstance(program.stdin, asyncio.StreamWriter) and isinstance(program.stdout, asyncio.StreamReader)
        assert program.stderr is None and program.returncode is None and alive(program.pid)
        program.stdin.write(b"one\n")
        program.stdin.writelines([b"two", b"\nthree"])
        await program.stdin.drain()
        assert await program.stdout.readline() == b"one\n"
        assert await program.stdout.readexactly(4) == b"two\n"
        program.stdin.write_eof()
        assert await program.stdout.read() == b"three"
        assert program.stdout.at_eof() and await program.stdout.read(10) == b""
        assert await program.wait() == 0 and program.returncode == 0
        await program.stdin.wait_closed()

    arun(main())


def test_communicate(arun):
    async def main():
        program = await create_subprocess_exec("sh", "-c", "cat; echo err >&2", stdin=PIPE, stdout=PIPE, stderr=PIPE)
        assert await program.communicate(b"in") == (b"in", b"err\n")
        program = await create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        assert await program.communicate() == (b"", None)
        program = await create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        assert await program.communicate(b"") == (b"", None)
        program = await create_subprocess_exec("true")
        assert await program.communicate() == (None, None)
        data = os.urandom(10_000_000)
        program = await create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        assert (await program.communicate(data))[0] == data

    arun(main())


def test_shell_and_options(arun, tmp_path):
    async def main():
        program = await create_subprocess_shell("exit 7")
        assert await program.wait() == 7
        program = await create_subprocess_shell("exit 8", start_new_session=True)
        assert await program.wait() == 8
        program = await create_subprocess_shell("echo $FOO; pwd", env={"FOO": "bar"}, cwd=tmp_path, stdout=PIPE)
        assert (await program.communicate())[0] == b"bar\n" + os.fsencode(tmp_path) + b"\n"
        program = await create_subprocess_shell("echo x >&2", stdout=PIPE, stderr=STDOUT, close_fds=False)
        assert (await program.communicate())[0] == b"x\n"
        program = await create_subprocess_exec("cat", stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL)
        assert await program.communicate() == (b"", None)
        with open("/etc/passwd") as file:
            program = await create_subprocess_exec("head", "-c", "4", stdin=file, stdout=PIPE)
        assert (await program.communicate())[0] == b"root"

    arun(main())


@pytest.mark.parametrize(
    ("method", "number"), [("terminate", signal.SIGTERM), ("kill", signal.SIGKILL), ("send_signal", signal.SIGHUP)]
)
def test_signals(arun, method, number):
    async def main():
        program = await create_subprocess_exec(*BLOCKED)
        getattr(program, method)(*([number] if method == "send_signal" else []))
        assert await program.wait() == -number
        with pytest.raises(ProcessLookupError):
            getattr(program, method)(*([number] if method == "send_signal" else []))

    arun(main())


def test_programs_that_can_not_be_executed(arun):
    async def main():
        with pytest.raises(FileNotFoundError) as info:
            await create_subprocess_exec("no-such-program", stdin=PIPE, stdout=PIPE)
        assert info.value.filename == "no-such-program" and "execve" in info.value.why
        with pytest.raises(PermissionError):
            await create_subprocess_exec("/etc/passwd")
        with pytest.raises(FileNotFoundError):
            await create_subprocess_exec("true", cwd="/no/such")

    arun(main())


@pytest.mark.parametrize(
    "options",
    [{"text": True}, {"encoding": "utf-8"}, {"errors": "strict"}, {"universal_newlines": True}, {"bufsize": 1}],
)
def test_text_mode_is_refused(arun, options):
    async def main():
        with pytest.raises(ValueError):
            await create_subprocess_exec("true", **options)
        with pytest.raises(ValueError):
            await create_subprocess_shell("true", **options)
        with pytest.raises(ValueError):
            await create_subprocess_exec("true", shell=True)
        with pytest.raises(ValueError):
            await create_subprocess_shell("true", shell=False)
        with pytest.raises(ValueError):
            await create_subprocess_shell(["true"])
        with pytest.raises(TypeError):
            await create_subprocess_exec("true", unknown=1)

    arun(main())


def test_drain_waits_and_the_program_gets_all(arun):
    async def main():
        program = await create_subprocess_shell("kill -STOP $$; wc -c", stdin=PIPE, stdout=PIPE)
        program.stdin.write(b"x" * 300_000)
        drained = asyncio.ensure_future(program.stdin.drain())
        await asyncio.sleep(0.05)
        assert not drained.done()  # a pipe has 64 KiB, and nobody reads
        assert program.stdin.transport.get_write_buffer_size() > 200_000
        program.stdin.write(b"y" * 1000)
        program.send_signal(signal.SIGCONT)
        await drained
        program.stdin.close()
        assert int(await program.stdout.read()) == 301_000
        await program.wait()

    arun(main())


def test_stdin_broken_pipe(arun):
    async def main():
        program = await create_subprocess_exec("sh", "-c", "read x; exit 0", stdin=PIPE)
        program.stdin.write(b"x" * 1_000_000)
        drained = asyncio.ensure_future(program.stdin.drain())
        await asyncio.sleep(0.02)
        program.stdin.write(b"\n")
        program.kill()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            await drained
        with pytest.raises(ConnectionResetError):
            await program.stdin.drain()
        await program.wait()
        with pytest.raises(BrokenPipeError):
            await program.stdin.wait_closed()

    arun(main())


def test_stdin_closed_by_a_program_that_lives_on(arun):
    async def main():
        program = await create_subprocess_exec("sh", "-c", "exec <&-; echo closed; sleep 1000", stdin=PIPE, stdout=PIPE)
        assert await program.stdout.readline() == b"closed\n"
        await auntil(lambda: program.stdin.is_closing())
        program.stdin.write(b"x")
        with pytest.raises(ConnectionResetError):
            await program.stdin.drain()
        # And with something in the buffer.
        other = await create_subprocess_exec(
            "sh", "-c", "read x; exec <&-; echo closed; sleep 1000", stdin=PIPE, stdout=PIPE
        )
        other.stdin.write(b"\n" + b"x" * 1_000_000)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            await other.stdin.drain()
        for each in (program, other):
            each.kill()
            await each.communicate()

    arun(main())


def test_communicate_ignores_a_broken_pipe(arun):
    async def main():
        program = await create_subprocess_exec("true", stdin=PIPE)
        await program.communicate(b"x" * 1_000_000)
        assert program.returncode == 0

    arun(main())


def test_flow_control_stops_reading_at_the_limit(arun):
    async def main():
        for limit in (10, 1000, 2**16, 2**20):
            program = await create_subprocess_exec("yes", stdout=PIPE, limit=limit)
            transport = program._transport.get_pipe_transport(1)
            await auntil(lambda transport=transport: not transport.is_reading())
            stopped_at = program.stats().stdout_bytes
            await asyncio.sleep(0.02)
            assert program.stats().stdout_bytes == stopped_at
            # Twice the limit is asyncio's mark; and what one more read took.
            assert 2 * limit < stopped_at <= 2 * limit + max(4096, min(4 * limit, 2**18))
            assert await program.stdout.readexactly(5_000_000) == b"y\n" * 2_500_000
            program.kill()
            await program.wait()
            await program.stdout.read()

    arun(main())


def test_pause_and_resume_are_called_by_the_stream_reader(arun):
    async def main():
        program = await create_subprocess_exec("printf", "%s", "x" * 21, stdout=PIPE, limit=10)
        transport = program._transport.get_pipe_transport(1)
        calls = []
        for name in ("pause_reading", "resume_reading"):

            def wrapped(name=name, original=getattr(transport, name)):
                calls.append(name)
                original()

            setattr(transport, name, wrapped)
        assert await program.communicate() == (b"x" * 21, None)
        assert calls[:1] == ["pause_reading"] and "resume_reading" in calls

    arun(main())


def test_lines_longer_than_the_limit(arun):
    async def main():
        program = await create_subprocess_shell("printf '%0100d\\nnext\\n' 1", stdout=PIPE, limit=20)
        with pytest.raises(ValueError):
            await program.stdout.readline()
        assert (await program.stdout.read()).endswith(b"next\n")
        await program.wait()

    arun(main())


def test_output_is_read_after_the_end(arun):
    async def main():
        program = await create_subprocess_shell("head -c 300000 /dev/zero; exit 1", stdout=PIPE)
        size = 0
        while True:
            data = await program.stdout.read(65536)
            if not data:
                break
            size += len(data)
            await asyncio.sleep(0.02)
        assert size == 300_000 and await program.wait() == 1

    arun(main())


def test_wait_does_not_need_the_output_to_be_read(arun):
    async def main():
        program = await create_subprocess_exec("echo", "x" * 1000, stdout=PIPE, limit=10)
        assert await asyncio.wait_for(program.wait(), 30) == 0
        assert await program.stdout.read() == b"x" * 1000 + b"\n"
        # Unread output of a program that is forgotten is no leak.
        program = await create_subprocess_exec("echo", "x" * 1000, stdout=PIPE, limit=10)
        await program.wait()

    arun(main())


def test_many_wait_for_one(arun):
    async def main():
        program = await create_subprocess_shell("read x; exit 4", stdin=PIPE)
        waiting = [asyncio.ensure_future(program.wait()) for _ in range(10)]
        await asyncio.sleep(0)
        waiting[3].cancel()
        program.stdin.close()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(results.pop(3), asyncio.CancelledError)
        assert results == [4] * 9
        assert await program.wait() == 4

    arun(main())


def test_cancelled_wait_leaves_the_program(arun):
    async def main():
        program = await create_subprocess_exec(*BLOCKED)
        task = asyncio.ensure_future(program.wait())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert alive(program.pid) and program.returncode is None
        program.kill()
        assert await program.wait() == -signal.SIGKILL

    arun(main())


def test_cancelled_while_it_is_started(arun):
    async def main():
        for _ in range(10):
            task = asyncio.ensure_future(create_subprocess_exec(*BLOCKED, stdin=PIPE, stdout=PIPE))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    arun(main())  # nothing_is_left says the rest


def test_programs_at_once(arun):
    async def one(number):
        program = await create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        data = str(number).encode() * 10_000
        assert await program.communicate(data) == (data, None)

    async def main():
        await asyncio.gather(*(one(n) for n in range(50)))

    arun(main())


class Recorder(asyncio.SubprocessProtocol):
    def __init__(self):
        self.events = []
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.events.append("made")
        self.transport = transport

    def pipe_data_received(self, fd, data):
        assert type(data) is bytes
        self.events.append((fd, data))

    def pipe_connection_lost(self, fd, exc):
        self.events.append((fd, "lost", exc))

    def process_exited(self):
        assert self.transport.get_returncode() is not None
        self.events.append("exited")

    def connection_lost(self, exc):
        self.events.append("lost")
        self.lost.set_result(exc)


def test_protocol(arun):
    async def main():
        code = 'import sys; sys.stdout.write("out"); sys.stderr.write("err")'
        transport, protocol = await subprocess_exec(Recorder, sys.executable, "-I", "-c", code)
        assert isinstance(transport, asyncio.SubprocessTransport)
        assert transport.get_pid() == transport.get_extra_info("subprocess").pid
        assert transport.get_protocol() is protocol
        assert await protocol.lost is None
        events = protocol.events
        assert events[0] == "made" and events[-1] == "lost"
        expected = {(1, b"out"), (2, b"err"), "exited", (0, "lost", None), (1, "lost", None), (2, "lost", None)}
        assert set(events[1:-1]) == expected and len(events) == 8
        assert events.index((1, b"out")) < events.index((1, "lost", None))
        assert transport.get_returncode() == 0
        transport.close()
        with pytest.raises(ProcessLookupError):
            transport.kill()
        transport, protocol = await subprocess_shell(Recorder, "cat; exit 3")
        stdin = transport.get_pipe_transport(0)
        stdin.write(bytearray(b"abc"))
        stdin.write(memoryview(b"def"))
        stdin.close()
        await protocol.lost
        assert (1, b"abcdef") in protocol.events and transport.get_returncode() == 3
        assert transport.get_pipe_transport(3) is None

    arun(main())


def test_closing_the_transport_kills(arun):
    async def main():
        transport, protocol = await subprocess_exec(Recorder, *BLOCKED)
        assert not transport.is_closing()
        transport.close()
        assert transport.is_closing()
        await protocol.lost
        assert transport.get_returncode() == -signal.SIGKILL

    arun(main())


def test_exceptions_of_a_protocol_are_told_to_the_loop(arun, errors_of_loop):
    class Broken(Recorder):
        def pipe_data_received(self, fd, data):
            raise ZeroDivisionError

    async def main():
        errors = errors_of_loop()
        _, protocol = await subprocess_exec(Broken, "echo", "x")
        await protocol.lost
        assert [type(context["exception"]) for context in errors] == [ZeroDivisionError]

    arun(main())


def test_write_buffer_limits(arun):
    async def main():
        program = await create_subprocess_exec(*BLOCKED, stdin=PIPE)
        transport = program.stdin.transport
        assert transport.get_write_buffer_limits() == (16384, 65536)
        transport.set_write_buffer_limits(high=100, low=10)
        assert transport.get_write_buffer_limits() == (10, 100)
        with pytest.raises(ValueError):
            transport.set_write_buffer_limits(high=1, low=2)
        with pytest.raises(TypeError):
            program.stdin.write("text")
        assert transport.can_write_eof()
        transport.abort()
        program.kill()
        await program.wait()

    arun(main())


def test_small_writes_arrive_in_order(arun):
    async def main():
        program = await create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        reading = asyncio.ensure_future(program.stdout.read())
        expected = bytearray()
        for n in range(20_000):
            piece = b"%d," % n
            expected += piece
            program.stdin.write(piece)
            if n % 5000 == 0:
                program.stdin.write(b"z" * 200_000)
                expected += b"z" * 200_000
                await program.stdin.drain()
        program.stdin.close()
        assert await reading == bytes(expected)
        await program.wait()

    arun(main())


def test_async_iteration_over_lines(arun):
    async def main():
        program = await create_subprocess_exec("seq", "10000", stdout=PIPE)
        assert [int(line) async for line in program.stdout] == list(range(1, 10001))
        await program.wait()

    arun(main())


def test_sigpipe_and_masks_are_as_in_a_shell(arun):
    code = """
    with open("/proc/self/status") as file:
        print([line.split()[1] for line in file if line.startswith(("SigBlk", "SigIgn"))])
    """

    async def main():
        program = await create_subprocess_exec(
            "sh", "-c", "grep -E '^Sig(Blk|Ign)' /proc/self/status | cut -f2", stdout=PIPE
        )
        assert {int(word, 16) for word in (await program.communicate())[0].split()} == {0}
        program = await create_subprocess_exec(*python(code), stdout=PIPE)
        await program.communicate()

    arun(main())
