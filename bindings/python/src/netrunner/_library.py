# SPDX-License-Identifier: Apache-2.0
"""The C interface of libnetrunner, by ctypes: netrunner.h in Python."""

from __future__ import annotations

import ctypes
import errno
import os
from ctypes import (
    POINTER,
    Structure,
    c_char_p,
    c_int,
    c_int32,
    c_int64,
    c_size_t,
    c_ssize_t,
    c_uint16,
    c_uint32,
    c_uint64,
    c_void_p,
)
from pathlib import Path
from typing import ClassVar, List

STDIN, STDOUT, STDERR, EXIT = range(4)

STDIO_AUTO, STDIO_PIPE, STDIO_NULL, STDIO_INHERIT, STDIO_FD, STDIO_STDOUT = range(6)

PTY = 1 << 0
PTY_NOECHO = 1 << 1
SESSION = 1 << 2
ASYNC = 1 << 3
LINGER = 1 << 4
OWN_SHEPHERD = 1 << 5
PID_NAMESPACE = 1 << 6
NO_NEW_PRIVS = 1 << 7
SET_UID = 1 << 16
SET_GID = 1 << 17
SET_GROUPS = 1 << 18
SET_UMASK = 1 << 19
SET_NICE = 1 << 20

KILL_NOW = -1
UNKNOWN = 2**64 - 1  # a number of nr_statistics that is not known
VERSION = (0, 1)  # major and minor of the netrunner.h that this is a copy of


class Stdio(Structure):
    _fields_: ClassVar = [("mode", c_int32), ("fd", c_int32)]


class Fdmap(Structure):
    _fields_: ClassVar = [("fd", c_int32), ("target", c_int32)]


class Rlimit(Structure):
    _fields_: ClassVar = [("resource", c_int32), ("reserved", c_int32), ("soft", c_uint64), ("hard", c_uint64)]


class Options(Structure):
    _fields_: ClassVar = [
        ("size", c_size_t),
        ("flags", c_uint64),
        ("argv", POINTER(c_char_p)),
        ("file", c_char_p),
        ("env", POINTER(c_char_p)),
        ("cwd", c_char_p),
        # "in" is a word of Python.
        ("in_", Stdio),
        ("out", Stdio),
        ("err", Stdio),
        ("fds", POINTER(Fdmap)),
        ("nfds", c_size_t),
        ("pipe_size", c_uint32),
        ("reserved0", c_uint32),
        ("rows", c_uint16),
        ("cols", c_uint16),
        ("umask", c_uint32),
        ("timeout_ms", c_int64),
        ("kill_timeout_ms", c_int64),
        ("output_limit", c_uint64),
        ("uid", c_uint32),
        ("gid", c_uint32),
        ("groups", POINTER(c_uint32)),
        ("ngroups", c_size_t),
        ("rlimits", POINTER(Rlimit)),
        ("nrlimits", c_size_t),
        ("cgroup_base", c_char_p),
        ("cgroup_path", c_char_p),
        ("cgroup_set", POINTER(c_char_p)),
        ("nice", c_int32),
        ("reserved", c_int32),
        ("shepherd", c_char_p),
    ]


class Outcome(Structure):
    """nr_outcome"""

    _fields_: ClassVar = [
        ("size", c_size_t),
        ("code", c_int32),
        ("signal", c_int32),
        ("reason", c_int32),
        ("core", c_int32),
    ]


class Statistics(Structure):
    _fields_: ClassVar = [
        ("size", c_size_t),
        ("stdin_bytes", c_uint64),
        ("stdout_bytes", c_uint64),
        ("stderr_bytes", c_uint64),
        ("writes", c_uint64),
        ("reads", c_uint64),
        ("wall_ns", c_uint64),
        ("user_ns", c_uint64),
        ("system_ns", c_uint64),
        ("memory", c_uint64),
        ("memory_peak", c_uint64),
        ("processes", c_uint64),
        ("minor_faults", c_uint64),
        ("major_faults", c_uint64),
        ("blocks_in", c_uint64),
        ("blocks_out", c_uint64),
        ("voluntary_switches", c_uint64),
        ("involuntary_switches", c_uint64),
    ]


def _candidates() -> List[str]:
    named = os.environ.get("NETRUNNER_LIBRARY")
    if named:
        return [named]
    here = Path(__file__).resolve().parent
    places = [str(here / "_lib" / "libnetrunner.so")]  # a wheel
    if here.parent.name == "src":  # a checkout
        places.append(str(here.parents[3] / "build" / "libnetrunner.so"))
    places.append("libnetrunner.so.0")  # wherever the dynamic linker looks
    return places


def _find() -> str:
    tried = []
    for place in _candidates():
        if os.sep in place and not os.path.exists(place):
            tried.append(f"{place}: not there")
            continue
        try:
            ctypes.CDLL(place)
        except OSError as error:
            tried.append(str(error))
            continue
        return place
    raise ImportError("libnetrunner.so can't be loaded: " + "; ".join(tried))


path = _find()

# Calls that return at once keep the GIL: handing it over costs more than they do,
# and up to 5 ms when another thread takes it. None of them waits for Python.
_at_once = ctypes.PyDLL(path)
_blocking = ctypes.CDLL(path)

version = _at_once.nr_version
version.argtypes = []
version.restype = c_uint32
version_string = _at_once.nr_version_string
version_string.argtypes = []
version_string.restype = c_char_p
strerror = _at_once.nr_strerror
strerror.argtypes = [c_int]
strerror.restype = c_char_p
errname = _at_once.nr_errname
errname.argtypes = [c_int]
errname.restype = c_char_p
spawn = _blocking.nr_spawn
spawn.argtypes = [POINTER(Options), c_char_p, c_size_t]
spawn.restype = c_int64
why = _at_once.nr_why
why.argtypes = [c_int64, c_char_p, c_size_t]
why.restype = c_int
pid = _at_once.nr_pid
pid.argtypes = [c_int64]
pid.restype = c_int
fd = _at_once.nr_fd
fd.argtypes = [c_int64, c_int]
fd.restype = c_int
read = _blocking.nr_read
read.argtypes = [c_int64, c_int, c_void_p, c_size_t]
read.restype = c_ssize_t
write = _blocking.nr_write
write.argtypes = [c_int64, c_char_p, c_size_t]
write.restype = c_ssize_t
close = _at_once.nr_close
close.argtypes = [c_int64, c_int]
close.restype = c_int
winsize = _at_once.nr_winsize
winsize.argtypes = [c_int64, c_uint16, c_uint16]
winsize.restype = c_int
kill = _blocking.nr_kill
kill.argtypes = [c_int64, c_int]
kill.restype = c_int
stop = _at_once.nr_stop
stop.argtypes = [c_int64]
stop.restype = c_int
wait = _at_once.nr_wait  # with timeout 0 only; Python waits on the NR_EXIT descriptor
wait.argtypes = [c_int64, c_int, POINTER(Outcome)]
wait.restype = c_int
stats = _at_once.nr_stats
stats.argtypes = [c_int64, POINTER(Statistics)]
stats.restype = c_int
cgroup_get = _blocking.nr_cgroup_get
cgroup_get.argtypes = [c_int64, c_char_p, c_char_p, c_size_t]
cgroup_get.restype = c_ssize_t
cgroup_set = _blocking.nr_cgroup_set
cgroup_set.argtypes = [c_int64, c_char_p, c_char_p]
cgroup_set.restype = c_int
release = _at_once.nr_release
release.argtypes = [c_int64]
release.restype = c_int


def _check_version() -> None:
    loaded = version()
    major, minor = loaded >> 16, loaded >> 8 & 0xFF
    if major != VERSION[0] or minor < VERSION[1]:
        raise ImportError(f"{path} is version {major}.{minor}, this package needs {VERSION[0]}.{VERSION[1]} or later")


_check_version()


def message(code: int) -> str:
    """The library's words for an error number."""
    if code == -errno.EOWNERDEAD:
        return "the shepherd was killed: how the program ended is not known"
    text: bytes = strerror(code)
    return text.decode()
