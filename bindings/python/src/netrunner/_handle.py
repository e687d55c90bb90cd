# SPDX-License-Identifier: Apache-2.0
"""One program, as the library knows it. No call in here waits."""

from __future__ import annotations

import ctypes
import enum
import errno
import fcntl
import os
import signal
import threading
from dataclasses import dataclass
from typing import Optional, Set, Tuple, Union

from . import _library as lib
from ._errors import ShepherdDied, error, spawn_error
from ._options import Request, StrOrBytesPath, window_size

_WHY = 512


class Reason(enum.IntEnum):
    """Why a program ended."""

    OWN = 0  #: by itself, or by somebody else's signal
    KILLED = 1  #: by kill(), send_signal() or stop()
    TIMEOUT = 2  #: its time was up
    OUTPUT = 3  #: it wrote more than max_output
    OOM = 4  #: the kernel, for its cgroup's memory limit
    LOST = 5  #: not known: its shepherd was killed by force, and the tree with it


@dataclass(frozen=True)
class Outcome:
    """How a program ended. Exactly one of code and signal is None.

    code    0 to 255
    signal  signal.SIGKILL, ...
    reason  why
    core    whether it dumped core
    """

    code: Optional[int]
    signal: Optional[int]
    reason: Reason
    core: bool = False

    @property
    def returncode(self) -> int:
        """As in subprocess: the code, or -N for signal N."""
        if self.signal is not None:
            return -self.signal
        assert self.code is not None
        return self.code


@dataclass(frozen=True)
class Statistics:
    """Numbers about a program; None where not known. Times are in seconds.

    Those of the program are of its whole tree if it has a cgroup; else of the
    program itself and what it has waited for, and most are known only after
    its end.
    """

    stdin_bytes: int  #: written to it
    stdout_bytes: int  #: read from it
    stderr_bytes: int
    writes: int
    reads: int
    wall_time: Optional[float]  #: from start to end, or to now
    user_time: Optional[float]
    system_time: Optional[float]
    memory: Optional[int]  #: bytes now; with a cgroup
    memory_peak: Optional[int]  #: bytes
    processes: Optional[int]  #: now; with a cgroup
    minor_faults: Optional[int]
    major_faults: Optional[int]
    blocks_in: Optional[int]
    blocks_out: Optional[int]
    voluntary_switches: Optional[int]
    involuntary_switches: Optional[int]


def _known(number: int) -> Optional[int]:
    return None if number == lib.UNKNOWN else number


def _seconds(ns: int) -> Optional[float]:
    return None if ns == lib.UNKNOWN else ns / 1e9


# A pipe holds 64 KiB unless asked to hold more, and then reading from it is some
# three times as fast. The kernel grants an unprivileged user a limited number of
# pages in all pipes together, hence only some, and only those that are read full.
PIPE_DEFAULT = 64 * 1024
PIPE_GROWN = 256 * 1024
_GROWN_MAX = 64
_F_SETPIPE_SZ = 1031
_F_GETPIPE_SZ = 1032


_grown: Set[Tuple[int, int]] = set()


class Handle:
    """A spawned program. Methods raise Error, unless they say otherwise."""

    def __init__(self, req: Request) -> None:
        self._number: int = 0
        why = ctypes.create_string_buffer(_WHY)
        self._number = lib.spawn(req.native, why, _WHY)
        self._owner = os.getpid()
        self._grow = {lib.STDOUT, lib.STDERR} if req.grow else set()
        self._read_bytes = {lib.STDOUT: 0, lib.STDERR: 0}
        self._reads = 0
        self._last_stats: Optional[Statistics] = None
        # A finalizer may come upon itself.
        self._release_lock = threading.RLock()
        self.request = req
        self.pid: Optional[int] = None
        self.outcome: Optional[Outcome] = None
        # Which of the program's streams this process has an end of. With a
        # terminal those with mode AUTO are its.
        piped = (lib.STDIO_PIPE, lib.STDIO_AUTO)
        self.has_stdin = req.native.in_.mode in piped
        self.has_stdout = req.native.out.mode in piped
        self.has_stderr = req.native.err.mode == lib.STDIO_PIPE
        self._open = {
            stream
            for stream, has in (
                (lib.STDIN, self.has_stdin),
                (lib.STDOUT, self.has_stdout),
                (lib.STDERR, self.has_stderr),
            )
            if has
        }
        if self._number < 0:
            number, self._number = self._number, 0
            raise spawn_error(number, why.value.decode(errors="replace"), req.program, req.cwd)

    @property
    def released(self) -> bool:
        return self._number == 0

    @property
    def foreign(self) -> bool:
        """This is a fork of the process that started the program."""
        return os.getpid() != self._owner

    def __del__(self) -> None:
        if self.__dict__.get("_number"):
            self.kill_and_release()

    def settle(self) -> None:
        """Releases what has ended and been read: its descriptors are wanted for others."""
        if self.outcome is not None and not self._open:
            self.release()

    def fd(self, stream: int) -> int:
        """The descriptor to watch. It belongs to the library."""
        return self._check(lib.fd(self._number, stream))

    def started(self) -> bool:
        """Whether the program has been executed. Raises if it couldn't be."""
        if self.pid is not None:
            return True
        pid = lib.pid(self._number)
        if pid == -errno.EAGAIN:
            return False
        if pid > 0:
            self.pid = pid
            return True
        failure = lib.wait(self._number, 0, None)
        if failure >= 0 or failure == -errno.EAGAIN:
            raise error(pid)
        why = ctypes.create_string_buffer(_WHY)
        lib.why(self._number, why, _WHY)
        raise spawn_error(
            failure,
            why.value.decode(errors="replace") or lib.message(failure),
            self.request.program,
            self.request.cwd,
        )

    def poll(self) -> Optional[Outcome]:
        """How the program ended, or None. It stays known after release()."""
        if self.outcome is not None or self._number == 0:
            return self.outcome
        how = lib.Outcome(size=ctypes.sizeof(lib.Outcome))
        result = lib.wait(self._number, 0, how)
        if result == -errno.EAGAIN:
            return None
        if result == -errno.EOWNERDEAD:
            self.outcome = Outcome(None, signal.SIGKILL, Reason.LOST)
        else:
            self._check(result)
            self.outcome = Outcome(
                None if how.code < 0 else how.code,
                None if how.signal < 0 else how.signal,
                Reason(how.reason),
                bool(how.core),
            )
        return self.outcome

    def is_complete(self) -> bool:
        """Whether the whole tree is known to be dead, so that nothing more is written."""
        outcome = self.outcome
        return outcome is not None and (not self.request.linger or outcome.reason is not Reason.OWN)

    def raise_if_lost(self) -> None:
        """Raises ShepherdDied if it is not known how the program ended."""
        if self.outcome is not None and self.outcome.reason is Reason.LOST:
            failure = error(errno.EOWNERDEAD)
            assert isinstance(failure, ShepherdDied)
            raise failure

    def read_into(self, stream: int, buffer: int, size: int) -> int:
        """Bytes read to the address buffer, 0 at the end, or a negative errno."""
        n: int = lib.read(self._number, stream, buffer, size)
        if n >= PIPE_DEFAULT and stream in self._grow:
            self._grow_pipe(stream)
        return n

    def count_read(self, stream: int, n: int) -> None:
        """Bytes that have been read from a stream's descriptor, not by read_into()."""
        self._read_bytes[stream] += n
        self._reads += 1
        if n >= PIPE_DEFAULT and stream in self._grow:
            self._grow_pipe(stream)

    def _grow_pipe(self, stream: int) -> None:
        self._grow.discard(stream)
        if len(_grown) >= _GROWN_MAX:
            return
        _grown.add((self._number, stream))
        try:
            descriptor = self.fd(stream)
            if fcntl.fcntl(descriptor, _F_GETPIPE_SZ) < PIPE_GROWN:
                fcntl.fcntl(descriptor, _F_SETPIPE_SZ, PIPE_GROWN)
        except OSError:
            pass  # a terminal; or the kernel grants no more

    def write(self, data: bytes) -> int:
        """Bytes taken, or a negative errno. data is not empty."""
        n: int = lib.write(self._number, data, len(data))
        return n

    def close_stream(self, stream: int) -> int:
        """0 or a negative errno: see nr_close_stdin() about terminals."""
        result: int = lib.close(self._number, stream)
        if result == 0:
            self._open.discard(stream)
        return result

    def abandon_stream(self, stream: int) -> None:
        """For one that can't be closed: it lives as long as the handle."""
        self._open.discard(stream)

    def kill(self, sig: int) -> None:
        """Raises ProcessLookupError if the program has ended."""
        if self._number == 0:
            raise error(errno.ESRCH)
        self._check(lib.kill(self._number, sig))

    def stop(self) -> None:
        if self._number:
            self._check(lib.stop(self._number))

    def resize(self, rows: int, columns: int) -> None:
        if self._number == 0:
            raise error(errno.ESRCH)
        self._check(lib.winsize(self._number, *window_size(rows, columns)))

    def stats(self) -> Statistics:
        if self._number == 0:
            if self._last_stats is None:
                raise error(errno.ESRCH)
            return self._last_stats
        s = lib.Statistics(size=ctypes.sizeof(lib.Statistics))
        self._check(lib.stats(self._number, s))
        return Statistics(
            s.stdin_bytes,
            s.stdout_bytes + self._read_bytes[lib.STDOUT],
            s.stderr_bytes + self._read_bytes[lib.STDERR],
            s.writes,
            s.reads + self._reads,
            _seconds(s.wall_ns),
            _seconds(s.user_ns),
            _seconds(s.system_ns),
            _known(s.memory),
            _known(s.memory_peak),
            _known(s.processes),
            _known(s.minor_faults),
            _known(s.major_faults),
            _known(s.blocks_in),
            _known(s.blocks_out),
            _known(s.voluntary_switches),
            _known(s.involuntary_switches),
        )

    def cgroup_get(self, file: StrOrBytesPath) -> str:
        if self._number == 0:
            raise error(errno.ESRCH)
        size = 4096
        while True:
            buffer = ctypes.create_string_buffer(size)
            length = self._check(lib.cgroup_get(self._number, os.fsencode(file), buffer, size))
            if length < size:
                return buffer.value.decode(errors="surrogateescape")
            size = length + 1

    def cgroup_set(self, file: StrOrBytesPath, value: Union[str, int]) -> None:
        if self._number == 0:
            raise error(errno.ESRCH)
        self._check(lib.cgroup_set(self._number, os.fsencode(file), str(value).encode()))

    def release(self) -> None:
        """Ends the use of the program, and the program itself if it still runs. Raises nothing."""
        with self._release_lock:
            if self._number == 0:
                return
            if not self.foreign:
                try:
                    self._last_stats = self.stats()
                except OSError:
                    pass
            number, self._number = self._number, 0
            lib.release(number)
            _grown.difference_update({(number, lib.STDOUT), (number, lib.STDERR)})

    def exit_dup(self) -> int:
        """A descriptor that gets readable with the end, the caller's own. -1: it has ended.

        Another thread may release the program while this one waits.
        """
        with self._release_lock:
            return -1 if self._number == 0 else os.dup(self.fd(lib.EXIT))

    def kill_and_release(self) -> None:
        """For a finalizer: nothing of the tree is left. Raises nothing."""
        if self._number and self.outcome is None and not self.foreign:
            lib.kill(self._number, signal.SIGKILL)
        self.release()

    def _check(self, result: int) -> int:
        if result < 0:
            if result == -errno.EBADF and self._number == 0:
                result = -errno.ESRCH  # released
            raise error(result, filename=None)
        return result
