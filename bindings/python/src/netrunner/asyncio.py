# SPDX-License-Identifier: Apache-2.0
"""asyncio's subprocess interface, on netrunner.

    from netrunner.asyncio import create_subprocess_exec

    program = await create_subprocess_exec("tr", "a-z", "A-Z", stdin=PIPE, stdout=PIPE)
    stdout, _ = await program.communicate(b"hello")

`create_subprocess_exec`, `create_subprocess_shell` and `Process` are asyncio's,
and more. There is no child watcher, no SIGCHLD and no thread: each loop, in
whatever thread, of asyncio or uvloop, watches one descriptor by add_reader().
"""

from __future__ import annotations

import asyncio
import asyncio.subprocess
import collections
import ctypes
import errno
import os
import select
import signal
import threading
import warnings
import weakref
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Deque,
    Dict,
    Iterable,
    List,
    Optional,
    Tuple,
    Type,
    TypeVar,
    Union,
    cast,
)

from . import _library as lib
from ._errors import OutputLimitExceeded, error
from ._handle import Handle, Outcome, Reason, Statistics
from ._options import DEVNULL, PIPE, STDOUT, Command, File, ProgramOptions, StrOrBytesPath, request
from ._popen import Codec, wait_ready
from ._run import CompletedProcess, pipes, raise_for

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

__all__ = [
    "DEVNULL",
    "PIPE",
    "STDOUT",
    "Backoff",
    "Daemon",
    "Process",
    "StreamReader",
    "SubprocessTransport",
    "create_subprocess_exec",
    "create_subprocess_shell",
    "run",
    "subprocess_exec",
    "subprocess_shell",
]

_LIMIT = 64 * 1024  # asyncio.streams' default
_READ_MAX = 256 * 1024
_WRITE_MAX = 64 * 1024
_IN_A_ROW = 8  # reads that find something, until other tasks have a turn
_BATCH = 64  # events that are taken from the kernel at once

_Protocol = TypeVar("_Protocol", bound=asyncio.SubprocessProtocol)


class _Scratch(threading.local):
    """Where a thread's reads go first: it is copied from there before the next one."""

    def __init__(self) -> None:
        self.memory = bytearray(_READ_MAX)
        self.view = memoryview(self.memory)
        self.target = (ctypes.c_char * _READ_MAX).from_buffer(self.memory)
        self.address = ctypes.addressof(self.target)


_scratch = _Scratch()


class _Watcher:
    """All descriptors of a loop's programs behind a single one, that of an epoll.

    The loop watches that by add_reader(). Watching, pausing and going on cost one
    system call each, whatever loop it is; and a pipe's error condition, which some
    loops take for a broken descriptor (uvloop), is seen by nobody else.
    """

    _of_loops: weakref.WeakValueDictionary[int, _Watcher] = weakref.WeakValueDictionary()

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._handlers: Dict[int, Callable[[int], None]] = {}
        self._epoll = select.epoll()
        loop.add_reader(self._epoll.fileno(), self._dispatch)

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> _Watcher:
        # The watcher holds the loop, so that its id is not another one's.
        watcher = cls._of_loops.get(id(loop))
        if watcher is None or watcher._epoll.closed:
            watcher = cls(loop)
            cls._of_loops[id(loop)] = watcher
        return watcher

    def add(self, fd: int, events: int, handler: Callable[[int], None]) -> None:
        self._epoll.register(fd, events)
        self._handlers[fd] = handler

    def modify(self, fd: int, events: int) -> None:
        self._epoll.modify(fd, events)

    def remove(self, fd: int) -> None:
        del self._handlers[fd]
        self._epoll.unregister(fd)
        if not self._handlers:
            if not self._loop.is_closed():
                self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()

    def _dispatch(self) -> None:
        for fd, events in self._epoll.poll(0, _BATCH):
            handler = self._handlers.get(fd)
            if handler is not None:  # else an earlier one of this batch has removed it
                try:
                    handler(events)
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as exc:
                    self._loop.call_exception_handler(
                        {"message": "Exception in a callback of netrunner", "exception": exc}
                    )


class _Pipe:
    """What reading and writing ends have in common."""

    def __init__(self, transport: SubprocessTransport, stream: int) -> None:
        self._transport = transport
        self._handle = transport._handle
        self._loop = transport._loop
        self._stream = stream
        self._fd = self._handle.fd(stream)
        self._watched: Optional[int] = None
        self._watcher: _Watcher  # while it is watched
        self._closing = False
        self._gone = False
        self.disconnected = False

    def __repr__(self) -> str:
        state = "closed" if self.disconnected else "closing" if self._closing else "open"
        return f"<{type(self).__name__} {state} stream={self._stream}>"

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """ "subprocess": the program's transport."""
        return self._transport if name == "subprocess" else default

    def is_closing(self) -> bool:
        return self._closing

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._transport.get_protocol()

    def _on_ready(self, events: int) -> None:
        raise NotImplementedError

    def _watch(self, events: Optional[int]) -> None:
        """None: not at all. 0: only for errors, such as that nobody reads a pipe any more."""
        if events == self._watched:
            return
        if events is None:
            self._watcher.remove(self._fd)
        elif self._watched is None:
            self._watcher = _Watcher.of(self._loop)
            self._watcher.add(self._fd, events, self._on_ready)
        else:
            self._watcher.modify(self._fd, events)
        self._watched = events

    def _disconnect(self, exc: Optional[BaseException]) -> None:
        """Closes this end, and tells the protocol in the next turn of the loop."""
        if self._gone:
            return
        self._closing = self._gone = True
        self._watch(None)
        if self._handle.close_stream(self._stream) < 0 and self._handle.request.terminal:
            # A program that takes the terminal raw knows no end of file.
            self._handle.abandon_stream(self._stream)
        if not self._loop.is_closed():
            self._loop.call_soon(self._lost, exc)

    def _lost(self, exc: Optional[BaseException]) -> None:
        self.disconnected = True
        self._transport._pipe_lost(self._stream, exc)


class _ReadPipe(_Pipe, asyncio.ReadTransport):
    """The end of an output."""

    def __init__(self, transport: SubprocessTransport, stream: int, read_size: int) -> None:
        super().__init__(transport, stream)
        self._read_size = read_size
        self._paused = False
        self.reader: Optional[StreamReader] = None  # one that will read by itself
        # netrunner.h: the library then counts nothing, and a terminal ends with EIO.
        req = self._handle.request
        self._by_kernel = req.max_output is None and not req.terminal

    def start(self) -> None:
        if self.is_reading():
            self._watch(select.EPOLLIN)

    def is_reading(self) -> bool:
        return not self._paused and not self._closing

    def pause_reading(self) -> None:
        if self.is_reading():
            self._paused = True
            # Not 0: the end would be reported again and again.
            self._watch(None)

    def resume_reading(self) -> None:
        if self._paused and not self._closing:
            self._paused = False
            self._watch(select.EPOLLIN)
            if self._handle.is_complete():
                self._loop.call_soon(self.take_rest)

    def close(self) -> None:
        """Says that nothing more will be read."""
        if not self._closing:
            self._disconnect(None)

    def _on_ready(self, events: int) -> None:  # noqa: ARG002
        reader = self.reader
        if reader is None:
            self._read()
        else:
            self.reader = None
            reader._wakeup_waiter()  # type: ignore[attr-defined]

    def _read(self) -> int:
        scratch = _scratch
        n = self._handle.read_into(self._stream, scratch.address, self._read_size)
        if n > 0:
            self._transport._data_received(self._stream, scratch.view[:n])
        elif n != -errno.EAGAIN:
            self._lose(n)
        return n

    def _lose(self, n: int) -> None:
        """For what nr_read() returns and is no bytes."""
        if n == 0:
            self._disconnect(None)
        elif n == -errno.EFBIG:
            self._disconnect(self._transport._limit_exceeded())
        else:
            self._disconnect(error(n))

    def read_now(self, size: int) -> bytes:
        """Reads past the protocol. Nothing: there is none now, or what follows is for the protocol."""
        if self._gone:
            return b""
        if self._by_kernel:
            # Into the bytes object itself: the copy that this saves is a third of the work.
            try:
                data = os.read(self._fd, min(size, _READ_MAX))
            except BlockingIOError:
                return b""
            if data:
                self._handle.count_read(self._stream, len(data))
            else:
                self._lose(0)
            return data
        scratch = _scratch
        n = self._handle.read_into(self._stream, scratch.address, min(size, _READ_MAX))
        if n > 0:
            return bytes(scratch.view[:n])
        if n != -errno.EAGAIN:
            self._lose(n)
        return b""

    def take_rest(self) -> None:
        """Reads on when the tree is dead: to the end, or to where there is nothing more.

        Something outside of the tree may hold the pipe open for ever.
        """
        if self.is_reading():
            n = self._read()
            if n == -errno.EAGAIN:
                self._disconnect(None)
            elif n > 0:
                self._loop.call_soon(self.take_rest)


class _WritePipe(_Pipe, asyncio.WriteTransport):
    """The end of stdin."""

    def __init__(self, transport: SubprocessTransport, stream: int) -> None:
        super().__init__(transport, stream)
        self._chunks: Deque[bytes] = collections.deque()
        self._sent = 0  # bytes of the first chunk
        self._size = 0
        self._protocol_paused = False
        self._low, self._high = 16 * 1024, 64 * 1024

    def start(self) -> None:
        if not self._closing:
            self._watch_idle()

    def _watch_idle(self) -> None:
        # A terminal is in hang-up also while nobody has opened its other side.
        self._watch(None if self._handle.request.terminal else 0)

    def get_write_buffer_size(self) -> int:
        return self._size

    def get_write_buffer_limits(self) -> Tuple[int, int]:
        return self._low, self._high

    def set_write_buffer_limits(self, high: Optional[int] = None, low: Optional[int] = None) -> None:
        if high is None:
            high = 64 * 1024 if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._low, self._high = low, high
        self._pause_protocol_if_full()

    def can_write_eof(self) -> bool:
        return True

    def write(self, data: Union[bytes, bytearray, memoryview]) -> None:
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data: expected a bytes-like object, not {type(data).__name__}")
        # What is lost after the end drain() reports, as in asyncio.
        if self._closing or not data:
            return
        # Nobody may change it later.
        self._chunks.append(data if isinstance(data, bytes) else bytes(data))
        self._size += len(self._chunks[-1])
        if len(self._chunks) == 1:
            self._flush()
        self._pause_protocol_if_full()

    def writelines(self, list_of_data: Iterable[Union[bytes, bytearray, memoryview]]) -> None:
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        """Gives the program end of file when everything has been written."""
        if not self._closing:
            self._closing = True
            if not self._chunks:
                self._end()

    def close(self) -> None:
        self.write_eof()

    def abort(self) -> None:
        """Closes it now, whatever has not been written."""
        self._fail(None)

    def peer_is_gone(self) -> None:
        """Nobody will read what has not been written."""
        self._fail(error(errno.EPIPE) if self._chunks else None)

    def _on_ready(self, events: int) -> None:
        if events & (select.EPOLLERR | select.EPOLLHUP) and not self._handle.request.terminal:
            self.peer_is_gone()
        elif self._chunks:
            self._flush()
        elif self._closing:
            self._end()

    def _next_piece(self) -> bytes:
        first = self._chunks[0]
        if len(self._chunks) > 1 and len(first) - self._sent < _WRITE_MAX:
            # Many small ones: as few calls as possible.
            pieces, size = [first[self._sent :]], len(first) - self._sent
            self._chunks.popleft()
            while self._chunks and size < _WRITE_MAX:
                pieces.append(self._chunks.popleft())
                size += len(pieces[-1])
            first, self._sent = b"".join(pieces), 0
            self._chunks.appendleft(first)
        if self._sent == 0 and len(first) <= _WRITE_MAX:
            return first
        return first[self._sent : self._sent + _WRITE_MAX]

    def _flush(self) -> None:
        n = self._handle.write(self._next_piece())
        if n < 0:
            if n != -errno.EAGAIN:
                self._fail(error(n))
                return
            n = 0
        self._sent += n
        self._size -= n
        if self._sent == len(self._chunks[0]):
            self._chunks.popleft()
            self._sent = 0
        if self._chunks:
            self._watch(select.EPOLLOUT)
            return
        self._resume_protocol_if_empty()  # it may write more
        if not self._chunks:
            if self._closing:
                self._end()
            else:
                self._watch_idle()

    def _end(self) -> None:
        """End of file. On a terminal that is a character, for which there may be no room now."""
        self._watch(None)
        if self._handle.close_stream(self._stream) == -errno.EAGAIN:
            self._watch(select.EPOLLOUT)
        else:
            self._disconnect(None)

    def _fail(self, exc: Optional[BaseException]) -> None:
        self._chunks.clear()
        self._sent = self._size = 0
        self._disconnect(exc)

    def _pause_protocol_if_full(self) -> None:
        if self._size > self._high and not self._protocol_paused:
            self._protocol_paused = True
            self._transport._call_protocol("pause_writing")

    def _resume_protocol_if_empty(self) -> None:
        if self._protocol_paused and self._size <= self._low:
            self._protocol_paused = False
            self._transport._call_protocol("resume_writing")


class _Subprocess:
    """What get_extra_info("subprocess") gives: the program without its streams."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    @property
    def args(self) -> Command:
        return self._handle.request.args

    @property
    def pid(self) -> Optional[int]:
        return self._handle.pid

    @property
    def returncode(self) -> Optional[int]:
        outcome = self._handle.outcome
        return None if outcome is None else outcome.returncode

    def poll(self) -> Optional[int]:
        self._handle.poll()
        return self.returncode

    def wait(self) -> int:
        """Blocks the loop."""
        while self.poll() is None:
            wait_ready(self._handle.fd(lib.EXIT), select.POLLIN)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, sig: int) -> None:
        try:
            self._handle.kill(sig)
        except ProcessLookupError:
            pass

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class SubprocessTransport(asyncio.SubprocessTransport):
    """asyncio's, for a program of netrunner. Signals are for the program's process group."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, protocol: asyncio.SubprocessProtocol, handle: Handle, limit: int
    ) -> None:
        super().__init__()
        self._loop = loop
        self._protocol = protocol
        self._handle = handle
        self._subprocess = _Subprocess(handle)
        self._watcher = _Watcher.of(loop)
        self._outcome: Optional[Outcome] = None
        self._exit_waiters: List[asyncio.Future[Outcome]] = []
        self._closed = False
        self._finished = False
        self._stopped = False
        self.limit_exceeded = False
        self._start_waiter: asyncio.Future[None] = loop.create_future()
        # A reader that wants little at a time gets little: what is read can't be put back.
        read_size = max(4096, min(4 * limit, _READ_MAX))
        self._stdin = _WritePipe(self, lib.STDIN) if handle.has_stdin else None
        self._stdout = _ReadPipe(self, lib.STDOUT, read_size) if handle.has_stdout else None
        self._stderr = _ReadPipe(self, lib.STDERR, read_size) if handle.has_stderr else None
        self._exit_fd = handle.fd(lib.EXIT)
        self._watcher.add(self._exit_fd, select.EPOLLIN, self._on_exit_ready)
        self._watching_exit = True

    def __repr__(self) -> str:
        info = [type(self).__name__]
        if self._closed:
            info.append("closed")
        if self._handle.pid is not None:
            info.append(f"pid={self._handle.pid}")
        if self._outcome is not None:
            info.append(f"returncode={self._outcome.returncode}")
        else:
            info.append("not started" if self._handle.pid is None else "running")
        return f"<{' '.join(info)}>"

    def __del__(self, _warn: Any = warnings.warn) -> None:
        if "_watching_exit" in self.__dict__ and not self._finished and not self._handle.foreign:
            if self._handle.poll() is None:
                _warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
            self._abandon()

    def _abandon(self) -> None:
        """Nobody is interested any more: kills the tree, without a word to the protocol."""
        self._closed = self._finished = True
        for pipe in self._all_pipes():
            pipe._closing = pipe._gone = True
            pipe._watch(None)
        self._unwatch_exit()
        self._handle.kill_and_release()

    def _all_pipes(self) -> List[Union[_ReadPipe, _WritePipe]]:
        pipes: List[Optional[Union[_ReadPipe, _WritePipe]]] = [self._stdin, self._stdout, self._stderr]
        return [pipe for pipe in pipes if pipe is not None]

    def _unwatch_exit(self) -> None:
        if self._watching_exit:
            self._watching_exit = False
            self._watcher.remove(self._exit_fd)

    async def _start(self) -> None:
        """Waits for the execve(2). If it fails, or is cancelled, nothing is left."""
        try:
            await self._start_waiter
        except asyncio.CancelledError:
            self.close()
            await self._end()
            raise

    def _on_exit_ready(self, events: int) -> None:  # noqa: ARG002
        if self._handle.pid is None:
            self._on_start()
            return
        outcome = self._handle.poll()
        if outcome is not None:
            self._unwatch_exit()
            self._on_end(outcome)

    def _on_start(self) -> None:
        try:
            if not self._handle.started():
                return
        except OSError as exc:
            self._closed = self._finished = True
            self._unwatch_exit()
            self._handle.release()
            if not self._start_waiter.done():
                self._start_waiter.set_exception(exc)
            self._wake_waiters(Outcome(None, signal.SIGKILL, Reason.OWN))
            return
        self._call_protocol("connection_made", self)
        for pipe in self._all_pipes():
            pipe.start()
        if not self._start_waiter.done():
            self._start_waiter.set_result(None)

    def _on_end(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self._call_protocol("process_exited")
        if self._handle.is_complete():
            if self._stdin is not None:
                self._stdin.peer_is_gone()
            for pipe in (self._stdout, self._stderr):
                if pipe is not None:
                    self._loop.call_soon(pipe.take_rest)
        self._wake_waiters(outcome)
        self._try_finish()

    def _wake_waiters(self, outcome: Outcome) -> None:
        waiters, self._exit_waiters = self._exit_waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(outcome)

    def _try_finish(self) -> None:
        if self._outcome is None or self._finished or not all(p.disconnected for p in self._all_pipes()):
            return
        self._finished = True
        self._handle.release()
        self._call_protocol("connection_lost", None)

    def _call_protocol(self, name: str, *args: Any) -> None:
        try:
            getattr(self._protocol, name)(*args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._loop.call_exception_handler(
                {
                    "message": f"Exception in {name}() of a subprocess protocol",
                    "exception": exc,
                    "transport": self,
                    "protocol": self._protocol,
                }
            )

    def _data_received(self, stream: int, data: memoryview) -> None:
        protocol = self._protocol
        if isinstance(protocol, _StreamProtocol):
            protocol.pipe_data_received(stream, data)  # type: ignore[arg-type] # copies it
        else:
            self._call_protocol("pipe_data_received", stream, bytes(data))

    def _pipe_lost(self, stream: int, exc: Optional[BaseException]) -> None:
        self._call_protocol("pipe_connection_lost", stream, exc)
        self._try_finish()

    def _limit_exceeded(self) -> OutputLimitExceeded:
        self.limit_exceeded = True
        limit = self._handle.request.max_output
        assert limit is not None
        return OutputLimitExceeded(self._handle.request.args, limit)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """From now on it is called."""
        self._protocol = cast("asyncio.SubprocessProtocol", protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """What is called."""
        return self._protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """ "subprocess": an object with pid, args, returncode, poll(), wait() and kill()."""
        return self._subprocess if name == "subprocess" else default

    def is_closing(self) -> bool:
        """Whether close() has been called."""
        return self._closed

    def close(self) -> None:
        """Closes all streams, and kills the program if it still runs."""
        if self._closed:
            return
        self._closed = True
        for pipe in self._all_pipes():
            pipe.close()
        if self._outcome is None and self._subprocess.poll() is None:
            self._subprocess.kill()

    def get_pid(self) -> int:
        """The program's process id."""
        assert self._handle.pid is not None  # nobody has a transport that has not started
        return self._handle.pid

    def get_returncode(self) -> Optional[int]:
        """The exit status, -N if signal N ended it, None while it runs."""
        return None if self._outcome is None else self._outcome.returncode

    def get_pipe_transport(self, fd: int) -> Optional[asyncio.BaseTransport]:
        """The transport of stdin (0), stdout (1) or stderr (2), if it is a pipe or the terminal."""
        return {0: self._stdin, 1: self._stdout, 2: self._stderr}.get(fd)

    def send_signal(self, signal: int) -> None:
        """Raises ProcessLookupError when the program has ended, as asyncio's."""
        if self._finished and not self._stopped:
            raise error(errno.ESRCH)
        self._subprocess.send_signal(signal)

    def terminate(self) -> None:
        """Sends SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Sends SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def stop(self) -> None:
        """Begins to end the tree: SIGTERM, kill_timeout seconds, SIGKILL."""
        self._stopped = True
        self._handle.stop()

    async def _wait(self) -> Outcome:
        if self._outcome is None and not self._finished:
            waiter = self._loop.create_future()
            self._exit_waiters.append(waiter)
            try:
                await waiter
            finally:
                if waiter in self._exit_waiters:
                    self._exit_waiters.remove(waiter)
        assert self._outcome is not None
        return self._outcome

    async def _end(self) -> None:
        """Stops the tree and returns when it is dead, also when it is cancelled.

        A first cancellation kills it without further grace. Only a second one
        does not wait: what is not dead by then hangs in the kernel.
        """
        self.stop()
        impatience = 0
        while self._outcome is None and not self._finished:
            try:
                await self._wait()
            except asyncio.CancelledError:
                impatience += 1
                if impatience > 1:
                    raise
                self._subprocess.kill()


class StreamReader(asyncio.StreamReader):
    """asyncio's, which raises OutputLimitExceeded only behind what was read before."""

    _deferred: Optional[BaseException] = None
    _buffer: bytearray
    _eof: bool
    _waiter: Optional[asyncio.Future[None]]

    def set_exception(self, exc: BaseException) -> None:
        """Lets reads fail, when what is in the buffer has been read."""
        if self._buffer:
            self._deferred = exc
            self._wakeup_waiter()  # type: ignore[attr-defined]
        else:
            super().set_exception(exc)  # type: ignore[arg-type]

    async def _wait_for_data(self, func_name: str) -> None:
        if self._deferred is not None:
            raise self._deferred
        await super()._wait_for_data(func_name)  # type: ignore[misc]

    def set_transport(self, transport: asyncio.BaseTransport) -> None:
        """The transport is that of a pipe."""
        super().set_transport(transport)
        assert isinstance(transport, _ReadPipe)
        self._pipe = transport
        self._in_a_row = 0

    async def read(self, n: int = -1) -> bytes:
        """Up to n bytes, at least one; without n all there is until the end."""
        if n < 0:
            # Not piece by piece: nothing is lost when this is cancelled.
            failure = self.exception()
            if failure is not None:
                raise failure
            while not self._eof:
                await self._wait_for_data("read")
            return self._take()
        # As long as nothing is in the buffer, bytes need not go by way of it.
        while n > 0 and not (self._buffer or self._eof or self._deferred or self._waiter or self.exception()):
            self._in_a_row += 1
            if self._in_a_row == _IN_A_ROW:
                self._in_a_row = 0
                await asyncio.sleep(0)
                continue
            data = self._pipe.read_now(n)
            if data:
                return data
            self._in_a_row = 0
            self._pipe.reader = self
            try:
                await self._wait_for_data("read")
            finally:
                self._pipe.reader = None
        return await super().read(n)

    def _take(self) -> bytes:
        data = bytes(self._buffer)
        self._buffer.clear()
        return data


class _StreamProtocol(asyncio.subprocess.SubprocessStreamProtocol):
    """asyncio's, with our StreamReader."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        for name in ("stdout", "stderr"):
            plain = getattr(self, name)
            if plain is not None:
                reader = StreamReader(limit=plain._limit, loop=plain._loop)
                reader.set_transport(plain._transport)
                setattr(self, name, reader)

    def pipe_connection_lost(self, fd: int, exc: Optional[BaseException]) -> None:
        super().pipe_connection_lost(fd, cast("Exception", exc))
        closed: asyncio.Future[None] = self._stdin_closed  # type: ignore[attr-defined]
        if fd == 0 and closed.done() and not closed.cancelled():
            closed.exception()  # nobody has to call wait_closed()


class Process(asyncio.subprocess.Process):
    """A program: asyncio's Process, and more.

    As an async context manager it closes the streams and waits when the block
    is left; when it is left by an exception, CancelledError too, the tree is
    stopped first.

    When communicate() is cancelled, the tree is stopped (SIGTERM, kill_timeout
    seconds, SIGKILL) before CancelledError is raised; cancelled again it is
    killed at once. Cancelling wait() has no such effect.

    Deleted while the program runs, it gives a ResourceWarning and kills the tree.
    """

    _transport: SubprocessTransport

    def __init__(
        self, transport: SubprocessTransport, protocol: _StreamProtocol, loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(transport, protocol, loop)
        self._handle = transport._handle

    def __del__(self, _warn: Any = warnings.warn) -> None:
        transport: Optional[SubprocessTransport] = self.__dict__.get("_transport")
        if transport is None or transport._finished or transport._handle.foreign:
            return
        if transport._handle.poll() is None:
            _warn(f"subprocess {self.pid} is still running", ResourceWarning, source=self)
            transport._abandon()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: Optional[Type[BaseException]],
        exc: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        if exc_type is not None:
            await self._transport._end()
        for pipe in self._transport._all_pipes():
            pipe.close()
        try:
            await self._transport._wait()
        except asyncio.CancelledError:
            await self._transport._end()
            raise

    @property
    def outcome(self) -> Optional[Outcome]:
        """How the program ended, or None."""
        return self._transport._outcome

    async def wait(self) -> int:
        """Waits for the end of the program and its tree; the streams may still hold output.

        Raises ShepherdDied.
        """
        outcome = await self._transport._wait()
        self._handle.raise_if_lost()
        return outcome.returncode

    async def communicate(self, input: Union[None, bytes, bytearray, memoryview] = None) -> Tuple[bytes, bytes]:
        """Sends input, closes stdin, reads both outputs to their end and waits.

        Returns (stdout, stderr); what is not a pipe is None. Raises
        OutputLimitExceeded with the output so far, and ShepherdDied.
        """
        if input and self.stdin is None:
            raise ValueError("input: stdin is not a pipe")
        try:
            stdout, stderr, _ = await asyncio.gather(
                self._collect(self.stdout), self._collect(self.stderr), self._feed(input)
            )
            await self._transport._wait()
        except asyncio.CancelledError:
            await self._transport._end()
            raise
        if self._transport.limit_exceeded:
            limit = self._handle.request.max_output
            assert limit is not None
            raise OutputLimitExceeded(self._handle.request.args, limit, stdout, stderr)
        self._handle.raise_if_lost()
        return cast("bytes", stdout), cast("bytes", stderr)

    async def _feed(self, input: Union[None, bytes, bytearray, memoryview]) -> None:
        if self.stdin is None:
            return
        try:
            if input:
                self.stdin.write(input)
                await self.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            pass  # it does not want more: no error
        self.stdin.close()

    async def _collect(self, reader: Optional[asyncio.StreamReader]) -> Optional[bytes]:
        if reader is None:
            return None
        assert isinstance(reader, StreamReader)
        try:
            return await reader.read()
        except OutputLimitExceeded:
            return reader._take()

    def stop(self) -> None:
        """Begins to end the tree: SIGTERM, kill_timeout seconds, SIGKILL. Returns at once."""
        self._transport.stop()

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


_BYTES_ONLY: Dict[str, Tuple[Any, ...]] = {
    "universal_newlines": (False, None),
    "text": (False, None),
    "encoding": (None,),
    "errors": (None,),
    "bufsize": (0,),
}


def _bytes_only(options: Any, shell: bool) -> None:
    """What asyncio refuses, and how it does."""
    for name, allowed in _BYTES_ONLY.items():
        if name in options and options.pop(name) not in allowed:
            raise ValueError(f"{name} must be {allowed[0]}")
    if options.pop("shell", shell) != shell:
        raise ValueError(f"shell must be {shell}")


async def _spawn(
    protocol_factory: Callable[[], _Protocol],
    args: Command,
    shell: bool,
    stdin: File,
    stdout: File,
    stderr: File,
    timeout: Optional[float],
    options: ProgramOptions,
    limit: int = _LIMIT,
) -> Tuple[SubprocessTransport, _Protocol]:
    loop = asyncio.get_running_loop()
    _bytes_only(options, shell)
    req = request(args, options, stdin=stdin, stdout=stdout, stderr=stderr, shell=shell, timeout=timeout)
    protocol = protocol_factory()
    handle = Handle(req)
    try:
        transport = SubprocessTransport(loop, protocol, handle, limit)
    except BaseException:  # no descriptor for the loop
        handle.kill_and_release()
        raise
    await transport._start()
    return transport, protocol


async def subprocess_exec(
    protocol_factory: Callable[[], _Protocol],
    program: StrOrBytesPath,
    *args: StrOrBytesPath,
    stdin: File = PIPE,
    stdout: File = PIPE,
    stderr: File = PIPE,
    timeout: Optional[float] = None,
    **options: Unpack[ProgramOptions],
) -> Tuple[SubprocessTransport, _Protocol]:
    """loop.subprocess_exec() of the running loop, for a SubprocessProtocol of one's own."""
    return await _spawn(protocol_factory, [program, *args], False, stdin, stdout, stderr, timeout, options)


async def subprocess_shell(
    protocol_factory: Callable[[], _Protocol],
    cmd: Union[str, bytes],
    *,
    stdin: File = PIPE,
    stdout: File = PIPE,
    stderr: File = PIPE,
    timeout: Optional[float] = None,
    **options: Unpack[ProgramOptions],
) -> Tuple[SubprocessTransport, _Protocol]:
    """loop.subprocess_shell() of the running loop, for a SubprocessProtocol of one's own."""
    if not isinstance(cmd, (str, bytes)):
        raise ValueError("cmd must be a string")
    return await _spawn(protocol_factory, cmd, True, stdin, stdout, stderr, timeout, options)


async def _create(
    args: Command,
    shell: bool,
    stdin: File,
    stdout: File,
    stderr: File,
    limit: int,
    timeout: Optional[float],
    options: ProgramOptions,
) -> Process:
    loop = asyncio.get_running_loop()
    transport, protocol = await _spawn(
        lambda: _StreamProtocol(limit=limit, loop=loop), args, shell, stdin, stdout, stderr, timeout, options, limit
    )
    return Process(transport, protocol, loop)


async def create_subprocess_exec(
    program: StrOrBytesPath,
    *args: StrOrBytesPath,
    stdin: File = None,
    stdout: File = None,
    stderr: File = None,
    limit: int = _LIMIT,
    timeout: Optional[float] = None,
    **options: Unpack[ProgramOptions],
) -> Process:
    """Starts a program: asyncio.create_subprocess_exec().

    timeout, in seconds, is a time limit that the shepherd keeps: the tree is
    then stopped. Further options: ProgramOptions. Raises Error (so
    FileNotFoundError, ...) if the program can't be executed. Cancelled, it
    leaves no program.
    """
    return await _create([program, *args], False, stdin, stdout, stderr, limit, timeout, options)


async def create_subprocess_shell(
    cmd: Union[str, bytes],
    stdin: File = None,
    stdout: File = None,
    stderr: File = None,
    limit: int = _LIMIT,
    timeout: Optional[float] = None,
    **options: Unpack[ProgramOptions],
) -> Process:
    """Starts a shell command: asyncio.create_subprocess_shell(). See create_subprocess_exec()."""
    if not isinstance(cmd, (str, bytes)):
        raise ValueError("cmd must be a string")
    return await _create(cmd, True, stdin, stdout, stderr, limit, timeout, options)


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
    """netrunner.run() for asyncio: the same arguments, results and exceptions.

    Cancelled, it stops the tree (SIGTERM, kill_timeout seconds, SIGKILL) before
    CancelledError is raised.
    """
    codec = Codec(text, universal_newlines, encoding, errors)
    stdin, stdout, stderr = pipes(options.get("pty", False), input is not None, capture_output, stdin, stdout, stderr)
    program = await _create(args, shell, stdin, stdout, stderr, _LIMIT, timeout, options)
    async with program:
        raw = await program.communicate(None if input is None else codec.encode(input))
        outcome = program.outcome
        assert outcome is not None
        output, error_output = codec.decode(raw[0]), codec.decode(raw[1])
        raise_for(args, outcome, timeout, check, output, error_output, raw)
        return CompletedProcess(args, outcome.returncode, output, error_output, outcome=outcome, stats=program.stats())


# It uses what is above.
from ._daemon import Backoff, Daemon  # noqa: E402
