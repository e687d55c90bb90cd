# SPDX-License-Identifier: Apache-2.0
"""Programs for anyio, and so for trio. Needs anyio 4.7 or later.

    async with await netrunner.anyio.open_process(["cat"]) as program:
        await program.stdin.send(b"hello")
        await program.stdin.aclose()
        async for data in program.stdout:
            ...

`open_process` and `Process` have the shape of anyio's; `run` is netrunner.run().
On asyncio, netrunner.asyncio is faster.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import signal
import warnings
from types import TracebackType
from typing import TYPE_CHECKING, Any, Optional, Tuple, Type, Union

import anyio
import anyio.abc
import anyio.lowlevel

from . import _library as lib
from ._errors import OutputLimitExceeded, error
from ._handle import Handle, Outcome, Statistics
from ._options import DEVNULL, PIPE, STDOUT, Command, File, ProgramOptions, StrOrBytesPath, request
from ._popen import Codec
from ._run import CompletedProcess, pipes, raise_for

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

__all__ = ["DEVNULL", "PIPE", "STDOUT", "Process", "ReceiveStream", "SendStream", "open_process", "run"]

_WRITE_MAX = 64 * 1024


async def _until(fd: int, events: int) -> None:
    """Waits for a descriptor by way of another one: an error condition must not look like a bad descriptor."""
    with select.epoll(1) as epoll:
        epoll.register(fd, events)
        await anyio.wait_readable(epoll.fileno())


class ReceiveStream(anyio.abc.ByteReceiveStream):
    """What the program writes."""

    def __init__(self, handle: Handle, stream: int) -> None:
        self._handle = handle
        self._stream = stream
        self._guard = False
        self._closed = False

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """At most max_bytes. Raises EndOfStream, and OutputLimitExceeded."""
        await anyio.lowlevel.checkpoint()
        if self._guard:
            raise anyio.BusyResourceError("receiving from")
        self._guard = True
        try:
            buffer = ctypes.create_string_buffer(max_bytes)
            while True:
                if self._closed:
                    raise anyio.ClosedResourceError
                n = self._handle.read_into(self._stream, ctypes.addressof(buffer), max_bytes)
                if n > 0:
                    return buffer.raw[:n] if n < max_bytes else buffer.raw
                if n == 0:
                    raise anyio.EndOfStream
                if n == -errno.EFBIG:
                    limit = self._handle.request.max_output
                    assert limit is not None
                    raise OutputLimitExceeded(self._handle.request.args, limit)
                if n != -errno.EAGAIN:
                    raise error(n)
                if self._handle.is_complete():  # somebody outside of the tree holds it open
                    raise anyio.EndOfStream
                await _until_either(self._handle, self._stream)
        finally:
            self._guard = False

    async def aclose(self) -> None:
        """Says that nothing more will be read."""
        if not self._closed:
            self._closed = True
            self._handle.close_stream(self._stream)
            self._handle.settle()
        await anyio.lowlevel.checkpoint()


async def _until_either(handle: Handle, stream: int) -> None:
    """Waits for output, or for the program's end."""
    with select.epoll(2) as epoll:
        epoll.register(handle.fd(stream), select.EPOLLIN)
        if handle.outcome is None:
            epoll.register(handle.fd(lib.EXIT), select.EPOLLIN)
        await anyio.wait_readable(epoll.fileno())
    handle.poll()


class SendStream(anyio.abc.ByteSendStream):
    """What the program reads."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        self._guard = False
        self._closed = False

    async def send(self, item: bytes) -> None:
        """Raises BrokenResourceError when the program reads no more."""
        await anyio.lowlevel.checkpoint()
        if self._guard:
            raise anyio.BusyResourceError("sending to")
        self._guard = True
        try:
            sent = 0
            while sent < len(item):
                if self._closed:
                    raise anyio.ClosedResourceError
                n = self._handle.write(bytes(item[sent : sent + _WRITE_MAX]))
                if n >= 0:
                    sent += n
                elif n == -errno.EPIPE:
                    raise anyio.BrokenResourceError from error(n)
                elif n == -errno.EAGAIN:
                    await _until(self._handle.fd(lib.STDIN), select.EPOLLOUT)
                else:
                    raise error(n)
        finally:
            self._guard = False

    async def aclose(self) -> None:
        """Gives the program end of file."""
        if not self._closed:
            self._closed = True
            while self._handle.close_stream(lib.STDIN) == -errno.EAGAIN:  # a terminal
                await _until(self._handle.fd(lib.STDIN), select.EPOLLOUT)
            self._handle.abandon_stream(lib.STDIN)
            self._handle.settle()
        await anyio.lowlevel.checkpoint()


class Process(anyio.abc.Process):
    """A program: anyio's Process, and more.

    As an async context manager it closes the streams and waits when the block
    is left; when it is left by an exception or a cancellation, the tree is
    stopped first. Deleted while the program runs, it gives a ResourceWarning
    and kills the tree.
    """

    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        self._stdin = SendStream(handle) if handle.has_stdin else None
        self._stdout = ReceiveStream(handle, lib.STDOUT) if handle.has_stdout else None
        self._stderr = ReceiveStream(handle, lib.STDERR) if handle.has_stderr else None

    def __del__(self, _warn: Any = warnings.warn) -> None:
        handle: Optional[Handle] = self.__dict__.get("_handle")
        if handle is None or handle.released or handle.foreign:
            return
        if handle.poll() is None:
            _warn(f"subprocess {handle.pid} is still running", ResourceWarning, source=self)
        handle.kill_and_release()

    @property
    def stdin(self) -> Optional[SendStream]:
        """What the program reads, if it is a pipe."""
        return self._stdin

    @property
    def stdout(self) -> Optional[ReceiveStream]:
        """What the program writes, if it is a pipe."""
        return self._stdout

    @property
    def stderr(self) -> Optional[ReceiveStream]:
        """What it writes to stderr, if that is a pipe."""
        return self._stderr

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._handle.pid is not None
        return self._handle.pid

    @property
    def returncode(self) -> Optional[int]:
        """The exit status, -N if signal N ended it, None while it runs."""
        outcome = self._handle.poll()
        return None if outcome is None else outcome.returncode

    @property
    def outcome(self) -> Optional[Outcome]:
        """How the program ended, or None."""
        return self._handle.poll()

    async def wait(self) -> int:
        """Waits for the end of the program and its tree. Raises ShepherdDied."""
        await anyio.lowlevel.checkpoint()
        while self._handle.poll() is None:
            fd = self._handle.exit_dup()  # two may wait
            try:
                await anyio.wait_readable(fd)
            finally:
                os.close(fd)
        self._handle.raise_if_lost()
        assert self._handle.outcome is not None
        self._handle.settle()
        return self._handle.outcome.returncode

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: Optional[Type[BaseException]],
        exc: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        if exc_type is not None:
            self.stop()
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the streams and waits. Cancelled, it stops the tree first."""
        try:
            with anyio.CancelScope(shield=True):
                for stream in (self._stdin, self._stdout, self._stderr):
                    if stream is not None:
                        await stream.aclose()
            await self.wait()
        except BaseException:
            self.stop()
            with anyio.CancelScope(shield=True):
                await self.wait()
            raise

    def send_signal(self, signal: int) -> None:
        """Sends a signal to the program's process group. Nothing if it has ended."""
        try:
            self._handle.kill(signal)
        except ProcessLookupError:
            pass

    def terminate(self) -> None:
        """Sends SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Sends SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def stop(self) -> None:
        """Begins to end the tree: SIGTERM, kill_timeout seconds, SIGKILL. Returns at once."""
        self._handle.stop()

    def stats(self) -> Statistics:
        """Numbers about the program, running or ended."""
        return self._handle.stats()

    def resize(self, rows: int, columns: int) -> None:
        """Sets the size of the terminal."""
        self._handle.resize(rows, columns)

    def cgroup_get(self, file: StrOrBytesPath) -> str:
        """What a file of the program's cgroup says."""
        return self._handle.cgroup_get(file)

    def cgroup_set(self, file: StrOrBytesPath, value: Union[str, int]) -> None:
        """Writes a file of the program's cgroup."""
        self._handle.cgroup_set(file, value)


async def open_process(
    command: Command,
    *,
    stdin: File = PIPE,
    stdout: File = PIPE,
    stderr: File = PIPE,
    shell: bool = False,
    timeout: Optional[float] = None,
    **options: Unpack[ProgramOptions],
) -> Process:
    """Starts a program. Raises Error (so FileNotFoundError, ...) if it can't be executed.

    A string is a program, not a shell command, unless shell is true.
    """
    handle = Handle(request(command, options, stdin=stdin, stdout=stdout, stderr=stderr, shell=shell, timeout=timeout))
    try:
        await anyio.lowlevel.checkpoint()
        while not handle.started():
            await anyio.wait_readable(handle.fd(lib.EXIT))
    except BaseException:
        handle.kill_and_release()
        raise
    return Process(handle)


async def run(
    args: Command,
    *,
    stdin: File = None,
    input: Union[None, str, bytes] = None,
    stdout: File = None,
    stderr: File = None,
    capture_output: bool = False,
    shell: bool = False,
    timeout: Optional[float] = None,
    check: bool = False,
    text: Optional[bool] = None,
    encoding: Optional[str] = None,
    errors: Optional[str] = None,
    universal_newlines: Optional[bool] = None,
    **options: Unpack[ProgramOptions],
) -> CompletedProcess[Any]:
    """netrunner.run(): the same arguments, results and exceptions. Cancelled, it stops the tree first."""
    codec = Codec(text, universal_newlines, encoding, errors)
    stdin, stdout, stderr = pipes(options.get("pty", False), input is not None, capture_output, stdin, stdout, stderr)
    data = None if input is None else codec.encode(input)
    program = await open_process(
        args, stdin=stdin, stdout=stdout, stderr=stderr, shell=shell, timeout=timeout, **options
    )
    buffers = {stream: bytearray() for stream in (program.stdout, program.stderr) if stream is not None}
    exceeded = False

    async def feed() -> None:
        if program.stdin is not None:
            try:
                await program.stdin.send(data or b"")
            except anyio.BrokenResourceError:
                pass  # it does not want more: no error
            await program.stdin.aclose()

    async def drain(stream: ReceiveStream) -> None:
        nonlocal exceeded
        try:
            async for chunk in stream:
                buffers[stream] += chunk
        except OutputLimitExceeded:
            exceeded = True
        await stream.aclose()

    async with program:
        async with anyio.create_task_group() as group:
            group.start_soon(feed)
            for stream in buffers:
                group.start_soon(drain, stream)
        await program.wait()
        raw: Tuple[Optional[bytes], ...] = tuple(
            None if stream is None else bytes(buffers[stream]) for stream in (program.stdout, program.stderr)
        )
        if exceeded:
            limit = options.get("max_output")
            assert limit is not None
            raise OutputLimitExceeded(args, limit, *raw)
        outcome = program.outcome
        assert outcome is not None
        output, error_output = codec.decode(raw[0]), codec.decode(raw[1])
        raise_for(args, outcome, timeout, check, output, error_output, (raw[0], raw[1]))
        return CompletedProcess(args, outcome.returncode, output, error_output, outcome=outcome, stats=program.stats())
