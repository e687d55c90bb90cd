# SPDX-License-Identifier: Apache-2.0
"""Programs for threads and scripts: subprocess.Popen's interface."""

from __future__ import annotations

import ctypes
import errno
import io
import locale
import os
import select
import signal
import time
import warnings
from subprocess import TimeoutExpired
from types import TracebackType
from typing import (
    IO,
    TYPE_CHECKING,
    Any,
    AnyStr,
    Dict,
    Generic,
    List,
    Literal,
    Optional,
    Tuple,
    Type,
    Union,
    cast,
    overload,
)

from . import _library as lib
from ._errors import OutputLimitExceeded, error
from ._handle import Handle, Outcome, Statistics
from ._options import Command, File, ProgramOptions, StrOrBytesPath, request

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer
    from typing_extensions import Self, Unpack

_SCRATCH = 256 * 1024
_BUFFER = 64 * 1024
_WRITE_MAX = 64 * 1024


def wait_ready(fd: int, events: int, deadline: Optional[float] = None) -> bool:
    """Waits for a descriptor, with signal handlers run meanwhile. False: out of time."""
    poll = select.poll()
    poll.register(fd, events)
    while True:
        if deadline is None:
            timeout = None
        else:
            timeout = max(0.0, deadline - time.monotonic()) * 1000
        if poll.poll(timeout):
            return True
        if deadline is not None and time.monotonic() >= deadline:
            return False


class _Stream(io.RawIOBase):
    """An end of one of the program's streams."""

    def __init__(self, handle: Handle, stream: int) -> None:
        self._handle = handle
        self._stream = stream
        self.name = handle.fd(stream)

    def fileno(self) -> int:
        self._check_open()
        return self._handle.fd(self._stream)

    def isatty(self) -> bool:
        self._check_open()
        return self._handle.request.terminal

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")

    def close(self) -> None:
        if self.closed:
            return
        try:
            if not self._handle.released and not self._handle.foreign:
                self._close_stream()
        finally:
            super().close()

    def _close_stream(self) -> None:
        self._handle.close_stream(self._stream)
        self._handle.settle()


class _Output(_Stream):
    """What the program writes."""

    cut = False  # pretend that the end is here, to find what has been read ahead

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        self._check_open()
        view = memoryview(buffer).cast("B")
        if self.cut or len(view) == 0:
            return 0
        target = (ctypes.c_char * len(view)).from_buffer(view)
        while True:
            n = self._handle.read_into(self._stream, ctypes.addressof(target), len(view))
            if n >= 0:
                return n
            if n == -errno.EAGAIN:
                wait_ready(self.fileno(), select.POLLIN)
            elif n == -errno.EFBIG:
                limit = self._handle.request.max_output
                assert limit is not None
                raise OutputLimitExceeded(self._handle.request.args, limit)
            else:
                raise error(n)


class _Input(_Stream):
    """What the program reads."""

    diverted: Optional[bytearray] = None  # gets what is written, instead of the program

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer) -> int:
        self._check_open()
        view = memoryview(data).cast("B")
        if self.diverted is not None:
            self.diverted += view
            return len(view)
        piece = bytes(view[:_WRITE_MAX])
        if not piece:
            return 0
        while True:
            n = self._handle.write(piece)
            if n >= 0:
                return n
            if n != -errno.EAGAIN:
                raise error(n)
            wait_ready(self.fileno(), select.POLLOUT)

    def _close_stream(self) -> None:
        # Only a terminal can refuse: what was typed before has to be read first, or
        # (ENOTTY) the program takes it raw, where there is no end of file.
        while self._handle.close_stream(self._stream) == -errno.EAGAIN:
            wait_ready(self._handle.fd(self._stream), select.POLLOUT)
        self._handle.abandon_stream(self._stream)
        self._handle.settle()


class Codec:
    """Text mode: what bytes are turned into, or None of it."""

    def __init__(
        self,
        text: Optional[bool],
        universal_newlines: Optional[bool],
        encoding: Optional[str],
        errors: Optional[str],
    ) -> None:
        if text is not None and universal_newlines is not None and bool(universal_newlines) != bool(text):
            raise ValueError("text and universal_newlines differ")
        self.text = bool(encoding or errors or text or universal_newlines)
        self.encoding = encoding or locale.getpreferredencoding(False)
        self.errors = errors or "strict"

    def encode(self, data: Union[str, bytes, bytearray, memoryview]) -> bytes:
        if isinstance(data, str) != self.text:
            wanted = "str" if self.text else "a bytes-like object"
            raise TypeError(f"input: expected {wanted}, not {type(data).__name__}")
        return data.encode(self.encoding, self.errors) if isinstance(data, str) else bytes(data)

    def decode(self, data: Optional[bytes]) -> Union[None, bytes, str]:
        if data is None or not self.text:
            return data
        return data.decode(self.encoding, self.errors).replace("\r\n", "\n").replace("\r", "\n")


class Communication:
    """Feeds stdin and drains the outputs, until all of them are at their end.

    It can be interrupted by a deadline and taken up again: nothing is lost.
    """

    def __init__(self, handle: Handle, streams: List[int], data: Optional[bytes]) -> None:
        self._handle = handle
        self._scratch = bytearray(_SCRATCH)
        self._view = memoryview(self._scratch)
        self._target = (ctypes.c_char * _SCRATCH).from_buffer(self._scratch)
        self._address = ctypes.addressof(self._target)
        self._data = data or b""
        self._sent = 0
        self._waiting = {stream: handle.fd(stream) for stream in streams}
        self.output = {stream: bytearray() for stream in streams if stream != lib.STDIN}
        self.limit_exceeded = False

    def run(self, deadline: Optional[float]) -> bool:
        """False: out of time."""
        ready = list(self._waiting)
        while True:
            for stream in ready:
                if self._step(stream):
                    self._finish(stream)
            if not self._waiting:
                return True
            if self.limit_exceeded or self._handle.is_complete():
                self._take_rest()
                return True
            ready = self._poll(deadline)
            if not ready:
                return False

    def _finish(self, stream: int) -> None:
        self._handle.close_stream(stream)
        self._waiting.pop(stream, None)

    def _take_rest(self) -> None:
        """The tree is dead, so all that it wrote is there, even if somebody else holds a pipe open."""
        for stream in list(self._waiting):
            if stream != lib.STDIN and not self.limit_exceeded:
                before = -1
                while before < len(self.output[stream]):
                    before = len(self.output[stream])
                    self._drain(stream)
            self._finish(stream)

    def _poll(self, deadline: Optional[float]) -> List[int]:
        poll = select.poll()
        for stream, fd in self._waiting.items():
            poll.register(fd, select.POLLOUT if stream == lib.STDIN else select.POLLIN)
        exit_fd = -1
        if self._handle.outcome is None:
            exit_fd = self._handle.fd(lib.EXIT)
            poll.register(exit_fd, select.POLLIN)
        timeout = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        found = {fd for fd, _ in poll.poll(timeout)}
        ready = [stream for stream, fd in self._waiting.items() if fd in found]
        if exit_fd in found:
            self._handle.poll()
            ready = ready or list(self._waiting)
        return ready

    def _step(self, stream: int) -> bool:
        """Moves bytes. True: this stream is done."""
        return self._feed() if stream == lib.STDIN else self._drain(stream)

    def _drain(self, stream: int) -> bool:
        n = self._handle.read_into(stream, self._address, _SCRATCH)
        if n > 0:
            self.output[stream] += self._view[:n]
        elif n == -errno.EFBIG:
            self.limit_exceeded = True
            return True
        elif n < 0 and n != -errno.EAGAIN:
            raise error(n)
        return n == 0

    def _feed(self) -> bool:
        if self._sent < len(self._data):
            n = self._handle.write(self._data[self._sent : self._sent + _WRITE_MAX])
            if n == -errno.EPIPE:
                return True  # it does not want more: no error
            if n < 0 and n != -errno.EAGAIN:
                raise error(n)
            self._sent += max(0, n)
        if self._sent < len(self._data):
            return False
        # A terminal may want its end of file later.
        return self._handle.close_stream(lib.STDIN) != -errno.EAGAIN


class Popen(Generic[AnyStr]):
    """Starts a program, with subprocess.Popen's arguments, attributes and methods.

    What is different:

    - The whole process tree is what is signalled, stopped and killed; it ends
      with the program, at the latest when this object is deleted or this
      process ends, in whatever way.
    - `timeout`, in seconds, is a time limit that the shepherd keeps: the program
      is then stopped (SIGTERM, `kill_timeout` seconds, SIGKILL).
    - Leaving a `with` block by an exception stops the program.
    - `preexec_fn`, `restore_signals=False` and `process_group` are not there.

    and what is new: `stop`, `stats`, `resize`, `outcome`, `cgroup_get`,
    `cgroup_set`, and the options of `ProgramOptions`.

    Raises Error (so FileNotFoundError, PermissionError, ...) if the program
    can't be executed. Starting blocks for about a millisecond. Methods may be
    called from any thread; one stream must not be used by two at a time.
    """

    stdin: Optional[IO[AnyStr]]
    stdout: Optional[IO[AnyStr]]
    stderr: Optional[IO[AnyStr]]
    args: Command

    @overload
    def __init__(
        self: Popen[str],
        args: Command,
        bufsize: int = ...,
        *,
        stdin: File = ...,
        stdout: File = ...,
        stderr: File = ...,
        shell: bool = ...,
        text: Literal[True],
        universal_newlines: Optional[bool] = ...,
        encoding: Optional[str] = ...,
        errors: Optional[str] = ...,
        timeout: Optional[float] = ...,
        **options: Unpack[ProgramOptions],
    ) -> None: ...

    @overload
    def __init__(
        self: Popen[str],
        args: Command,
        bufsize: int = ...,
        *,
        stdin: File = ...,
        stdout: File = ...,
        stderr: File = ...,
        shell: bool = ...,
        text: Optional[bool] = ...,
        universal_newlines: Optional[bool] = ...,
        encoding: str,
        errors: Optional[str] = ...,
        timeout: Optional[float] = ...,
        **options: Unpack[ProgramOptions],
    ) -> None: ...

    @overload
    def __init__(
        self: Popen[bytes],
        args: Command,
        bufsize: int = ...,
        *,
        stdin: File = ...,
        stdout: File = ...,
        stderr: File = ...,
        shell: bool = ...,
        text: Optional[Literal[False]] = ...,
        universal_newlines: Optional[Literal[False]] = ...,
        encoding: None = ...,
        errors: None = ...,
        timeout: Optional[float] = ...,
        **options: Unpack[ProgramOptions],
    ) -> None: ...

    @overload
    def __init__(
        self: Popen[Any],
        args: Command,
        bufsize: int = ...,
        *,
        stdin: File = ...,
        stdout: File = ...,
        stderr: File = ...,
        shell: bool = ...,
        text: Optional[bool] = ...,
        universal_newlines: Optional[bool] = ...,
        encoding: Optional[str] = ...,
        errors: Optional[str] = ...,
        timeout: Optional[float] = ...,
        **options: Unpack[ProgramOptions],
    ) -> None: ...

    def __init__(
        self,
        args: Command,
        bufsize: int = -1,
        *,
        stdin: File = None,
        stdout: File = None,
        stderr: File = None,
        shell: bool = False,
        text: Optional[bool] = None,
        universal_newlines: Optional[bool] = None,
        encoding: Optional[str] = None,
        errors: Optional[str] = None,
        timeout: Optional[float] = None,
        **options: Unpack[ProgramOptions],
    ) -> None:
        self._codec = Codec(text, universal_newlines, encoding, errors)
        self.args = args
        self.stdin = self.stdout = self.stderr = None
        self._communication: Optional[Communication] = None
        self._ahead: Dict[int, Tuple[str, bytes]] = {}
        self._handle = handle = Handle(
            request(args, options, stdin=stdin, stdout=stdout, stderr=stderr, shell=shell, timeout=timeout)
        )
        try:
            while not handle.started():
                wait_ready(handle.fd(lib.EXIT), select.POLLIN)
            assert handle.pid is not None
            self.pid: int = handle.pid
            self._open_streams(bufsize)
        except BaseException:
            handle.kill_and_release()
            raise

    def _open_streams(self, bufsize: int) -> None:
        text = self._codec.text
        line_buffering = bufsize == 1 and text
        size = bufsize if bufsize > 1 else _BUFFER

        def wrap(binary: Any, write: bool) -> IO[AnyStr]:
            if text:
                wrapped = io.TextIOWrapper(
                    binary,
                    encoding=self._codec.encoding,
                    errors=self._codec.errors,
                    line_buffering=write and line_buffering,
                    write_through=write and bufsize == 0,
                )
                return cast("IO[AnyStr]", wrapped)
            return cast("IO[AnyStr]", binary)

        handle = self._handle
        # Text needs something with read1() below it, so it is buffered always.
        buffered = bufsize != 0 or text
        if handle.has_stdin:
            raw = _Input(handle, lib.STDIN)
            self.stdin = wrap(io.BufferedWriter(raw, size) if buffered else raw, True)
        if handle.has_stdout:
            out = _Output(handle, lib.STDOUT)
            self.stdout = wrap(io.BufferedReader(out, size) if buffered else out, False)
        if handle.has_stderr:
            out = _Output(handle, lib.STDERR)
            self.stderr = wrap(io.BufferedReader(out, size) if buffered else out, False)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: returncode: {self.returncode} args: {self.args!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: Optional[Type[BaseException]],
        exc: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        if exc_type is not None:
            self._handle.stop()
        try:
            for stream in (self.stdout, self.stderr):
                if stream is not None:
                    stream.close()
            try:
                if self.stdin is not None:
                    self.stdin.close()  # flushes
            except BrokenPipeError:
                if exc_type is None:
                    raise
        finally:
            self._wait(None)

    def __del__(self, _warn: Any = warnings.warn) -> None:
        handle: Optional[Handle] = self.__dict__.get("_handle")
        if handle is None or handle.released or handle.foreign:
            return
        if handle.poll() is None:
            _warn(f"subprocess {handle.pid} is still running", ResourceWarning, source=self)
            handle.kill_and_release()

    @property
    def returncode(self) -> Optional[int]:
        """The exit status, -N if signal N ended it, None before poll() or wait() have seen the end."""
        outcome = self._handle.outcome
        return None if outcome is None else outcome.returncode

    @property
    def outcome(self) -> Optional[Outcome]:
        """How the program ended, or None: it has not, as far as poll() and wait() have seen."""
        return self._handle.outcome

    @property
    def universal_newlines(self) -> bool:
        """Whether the streams are text."""
        return self._codec.text

    def poll(self) -> Optional[int]:
        """Returncode, or None while the program or something of its tree still runs."""
        self._handle.poll()
        self._handle.settle()
        return self.returncode

    def wait(self, timeout: Optional[float] = None) -> int:
        """Waits for the end of the program and its tree.

        Raises TimeoutExpired, ShepherdDied. As with subprocess: a program that
        fills a pipe nobody reads never ends; communicate() reads.
        """
        if not self._wait(None if timeout is None else time.monotonic() + timeout):
            assert timeout is not None
            raise TimeoutExpired(self.args, timeout)
        self._handle.raise_if_lost()
        assert self.returncode is not None
        return self.returncode

    def _wait(self, deadline: Optional[float]) -> bool:
        while self.poll() is None:
            fd = self._handle.exit_dup()
            if fd < 0:
                break
            try:
                if not wait_ready(fd, select.POLLIN, deadline):
                    return self.poll() is not None
            finally:
                os.close(fd)
        return True

    def communicate(self, input: Optional[AnyStr] = None, timeout: Optional[float] = None) -> Tuple[AnyStr, AnyStr]:
        """Sends input, closes stdin, reads both outputs to their end and waits.

        Returns (stdout, stderr); what is not a pipe is None. After timeout
        seconds it raises TimeoutExpired with the output so far; the program
        runs on, and communicate() can be called again. Raises
        OutputLimitExceeded with the output so far, and ShepherdDied.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        if self._communication is None:
            self._communication = self._start_communication(input)
        elif input:
            raise ValueError("Cannot send input after starting communication")
        communication = self._communication
        in_time = communication.run(deadline) and self._wait(deadline)
        if not in_time:
            assert timeout is not None
            raise TimeoutExpired(self.args, timeout, *self.raw_output())
        if communication.limit_exceeded:
            limit = self._handle.request.max_output
            assert limit is not None
            raise OutputLimitExceeded(self.args, limit, *self.raw_output())
        self._close_streams()
        self._handle.raise_if_lost()
        return cast("AnyStr", self._result(lib.STDOUT)), cast("AnyStr", self._result(lib.STDERR))

    def _start_communication(self, data: Optional[AnyStr]) -> Communication:
        streams = []
        pending = b""
        if data and self.stdin is None:
            raise ValueError("input: stdin is not a pipe")
        if self.stdin is not None and not self.stdin.closed:
            raw = cast("_Input", _raw(self.stdin))
            raw.diverted = bytearray()
            self.stdin.flush()
            pending = bytes(raw.diverted)
            raw.diverted = None
            streams.append(lib.STDIN)
        for stream, file in ((lib.STDOUT, self.stdout), (lib.STDERR, self.stderr)):
            if file is not None and not file.closed:
                self._ahead[stream] = _read_ahead(file)
                streams.append(stream)
        if data is not None:
            pending += self._codec.encode(data)
        return Communication(self._handle, streams, pending)

    def _close_streams(self) -> None:
        for file in (self.stdin, self.stdout, self.stderr):
            if file is not None:
                file.close()

    def raw_output(self) -> Tuple[Optional[bytes], Optional[bytes]]:
        """As bytes, also in text mode: it may end within a character. subprocess does the same."""

        def one(stream: int) -> Optional[bytes]:
            assert self._communication is not None
            if stream not in self._ahead:
                return None
            text, data = self._ahead[stream]
            return text.encode(self._codec.encoding, "surrogatepass") + data + bytes(self._communication.output[stream])

        return one(lib.STDOUT), one(lib.STDERR)

    def _result(self, stream: int) -> Union[None, bytes, str]:
        assert self._communication is not None
        if stream not in self._ahead:
            return None
        text, data = self._ahead[stream]
        data += self._communication.output[stream]
        decoded = self._codec.decode(data)
        return text + decoded if isinstance(decoded, str) else decoded

    def send_signal(self, sig: int) -> None:
        """Sends a signal to the program's process group, or its cgroup. Nothing if it has ended."""
        if self.poll() is None:
            try:
                self._handle.kill(sig)
            except ProcessLookupError:
                pass

    def terminate(self) -> None:
        """Sends SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Sends SIGKILL. The rest of the tree is killed when the program has ended."""
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
        """What a file of the program's cgroup says: cgroup_get("memory.current")."""
        return self._handle.cgroup_get(file)

    def cgroup_set(self, file: StrOrBytesPath, value: Union[str, int]) -> None:
        """Writes a file of the program's cgroup."""
        self._handle.cgroup_set(file, value)


def _raw(file: Any) -> _Stream:
    while not isinstance(file, _Stream):
        file = file.buffer if isinstance(file, io.TextIOWrapper) else file.raw
    return file


def _read_ahead(file: Any) -> Tuple[str, bytes]:
    """What earlier reads of a file have taken from the pipe and not delivered."""
    raw = cast("_Output", _raw(file))
    if file is raw:
        return "", b""
    raw.cut = True
    try:
        if isinstance(file, io.TextIOWrapper):
            data = file.buffer.read()
            return file.read(), data
        return "", file.read()
    finally:
        raw.cut = False
