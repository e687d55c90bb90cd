# SPDX-License-Identifier: Apache-2.0
"""From Python's arguments to nr_options."""

from __future__ import annotations

import ctypes
import math
import os
import subprocess
from dataclasses import dataclass, field
from typing import IO, Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, TypedDict, Union

from . import _library as lib

PIPE = subprocess.PIPE
STDOUT = subprocess.STDOUT
DEVNULL = subprocess.DEVNULL

StrOrBytesPath = Union[str, bytes, "os.PathLike[str]", "os.PathLike[bytes]"]
Command = Union[StrOrBytesPath, Sequence[StrOrBytesPath]]
Environment = Union[Mapping[str, StrOrBytesPath], Mapping[bytes, StrOrBytesPath]]
File = Union[None, int, IO[Any]]


@dataclass(frozen=True)
class Cgroup:
    """Where in the cgroup v2 hierarchy a program runs. Paths are below its mount point.

    base  make a fresh group under this one, and remove it afterwards
    path  use exactly this group, and kill all that is in it at the end
    set   files of the group to write first: ``{"memory.max": 256 * 2**20}``

    Exactly one of base and path is given.
    """

    base: Optional[StrOrBytesPath] = None
    path: Optional[StrOrBytesPath] = None
    set: Mapping[str, Union[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.base is None) == (self.path is None):
            raise ValueError("exactly one of base and path has to be given")


class ProgramOptions(TypedDict, total=False):
    """Keyword arguments that all ways to start a program take.

    Those of `subprocess.Popen`, with its meaning:

    executable          what to execute, by default args[0]
    cwd                 working directory
    env                 the exact environment; None: this process's
    close_fds           False: the program inherits descriptors that are inheritable
    pass_fds            descriptors that the program gets under the same number
    start_new_session   run it in a new session (else in a new process group)
    process_group       0 or None: each program has a process group of its own
    user, group         names or numbers; `user` without `extra_groups` has no further groups
    extra_groups        supplementary groups
    umask               -1: this process's
    pipesize            bytes that each pipe holds; -1: a pipe grows when it is read full

    Those of netrunner:

    fds             further descriptors: ``{number in the program: descriptor here}``
    nice            niceness
    rlimits         ``{resource.RLIMIT_NOFILE: (soft, hard)}``; resource.RLIM_INFINITY is no limit
    kill_timeout    seconds between SIGTERM and SIGKILL whenever the program is
                    stopped; 0: SIGKILL at once. Default 5
    max_output      bytes of stdout and stderr together; more kills the tree and
                    raises OutputLimitExceeded
    pty             True: run on a new terminal; ``(rows, columns)``: of this size (else 24 x 80)
    echo            False: the terminal's echo is off
    cgroup          a Cgroup, or a path: make a fresh group under that one
    linger          True: what the program leaves running lives on until it is released
    own_shepherd    True: a shepherd for this program alone
    pid_namespace   True: run it in a pid namespace of its own
    no_new_privs    True: no setuid program in the tree gains anything
    shepherd        path of the netrunner-shepherd executable
    """

    executable: Optional[StrOrBytesPath]
    cwd: Optional[StrOrBytesPath]
    env: Optional[Environment]
    close_fds: bool
    pass_fds: Iterable[int]
    start_new_session: bool
    process_group: Optional[int]
    restore_signals: bool
    user: Union[None, str, int]
    group: Union[None, str, int]
    extra_groups: Optional[Iterable[Union[str, int]]]
    umask: int
    pipesize: int
    fds: Mapping[int, int]
    nice: Optional[int]
    rlimits: Mapping[int, Tuple[int, int]]
    kill_timeout: Optional[float]
    max_output: Optional[int]
    pty: Union[bool, Tuple[int, int]]
    echo: bool
    cgroup: Union[None, Cgroup, StrOrBytesPath]
    linger: bool
    own_shepherd: bool
    pid_namespace: bool
    no_new_privs: bool
    shepherd: Optional[StrOrBytesPath]
    # What subprocess knows and this does not, accepted with their defaults only.
    preexec_fn: None
    startupinfo: None
    creationflags: int


def _bytes(value: StrOrBytesPath, what: str) -> bytes:
    try:
        encoded = os.fsencode(value)
    except TypeError:
        raise TypeError(f"{what}: expected str, bytes or os.PathLike object, not {type(value).__name__}") from None
    if b"\0" in encoded:
        raise ValueError(f"{what}: embedded null byte")
    return encoded


def _strings(values: Sequence[bytes]) -> Any:
    return (ctypes.c_char_p * (len(values) + 1))(*values)


def milliseconds(seconds: float, what: str) -> int:
    """Rounded up, so that a short time is not none."""
    ms = seconds * 1000
    if not ms < 2**53:
        raise ValueError(f"{what}: {seconds!r} seconds")
    return math.ceil(ms)


def _argv(args: Command, shell: bool) -> List[bytes]:
    if isinstance(args, (str, bytes, os.PathLike)):
        listed: List[StrOrBytesPath] = [args]
    else:
        listed = list(args)
    argv = [_bytes(arg, "args") for arg in listed]
    if shell:
        argv = [b"/bin/sh", b"-c", *argv]
    if not argv:
        raise ValueError("args: empty")
    return argv


def _environment(env: Environment) -> List[bytes]:
    listed = []
    for key, value in env.items():
        name = _bytes(key, "env")
        if not name or b"=" in name:
            raise ValueError(f"env: illegal environment variable name {key!r}")
        listed.append(name + b"=" + _bytes(value, "env"))
    return listed


def _descriptor(value: Union[int, IO[Any]], what: str) -> int:
    number = value if isinstance(value, int) else value.fileno()
    if number < 0:
        raise ValueError(f"{what}: {value!r}")
    return number


def _stdio(value: File, what: str, default: int) -> lib.Stdio:
    if value is None:
        return lib.Stdio(default, 0)
    if value == PIPE:
        return lib.Stdio(lib.STDIO_PIPE, 0)
    if value == DEVNULL:
        return lib.Stdio(lib.STDIO_NULL, 0)
    if value == STDOUT:
        if what != "stderr":
            raise ValueError("STDOUT can only be used for stderr")
        return lib.Stdio(lib.STDIO_STDOUT, 0)
    return lib.Stdio(lib.STDIO_FD, _descriptor(value, what))


def _user(value: Union[str, int]) -> int:
    if isinstance(value, str):
        import pwd

        return pwd.getpwnam(value).pw_uid
    if value < 0:
        raise ValueError(f"user: {value}")
    return value


def _group(value: Union[str, int], what: str) -> int:
    if isinstance(value, str):
        import grp

        return grp.getgrnam(value).gr_gid
    if value < 0:
        raise ValueError(f"{what}: {value}")
    return value


def _inheritable() -> List[int]:
    """Descriptors that close_fds=False means."""
    numbers = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.get_inheritable(int(name)):
                numbers.append(int(name))
        except OSError:  # the one that listed them
            continue
    return numbers


def _fdmap(options: ProgramOptions) -> Dict[int, int]:
    wanted = dict(options.get("fds") or {})
    for target, number in wanted.items():
        if target <= 2:
            raise ValueError(f"fds: {target} is not above 2; use stdin, stdout and stderr")
        if number < 0:
            raise ValueError(f"fds: {number}")
    same = list(options.get("pass_fds") or ())
    if not options.get("close_fds", True):
        same += _inheritable()
    for number in same:
        if number < 0:
            raise ValueError(f"pass_fds: {number}")
        if number > 2:  # these three it has anyway
            wanted.setdefault(number, number)
    return wanted


def _set_ids(native: lib.Options, options: ProgramOptions) -> None:
    user, group, extra = options.get("user"), options.get("group"), options.get("extra_groups")
    if user is not None:
        native.uid = _user(user)
        native.flags |= lib.SET_UID
    if group is not None:
        native.gid = _group(group, "group")
        native.flags |= lib.SET_GID
    if extra is not None:
        groups = [_group(g, "extra_groups") for g in extra]
        native.groups = (ctypes.c_uint32 * len(groups))(*groups)
        native.ngroups = len(groups)
        native.flags |= lib.SET_GROUPS


def _set_cgroup(native: lib.Options, cgroup: Union[Cgroup, StrOrBytesPath]) -> None:
    if not isinstance(cgroup, Cgroup):
        cgroup = Cgroup(base=cgroup)
    if cgroup.base is not None:
        native.cgroup_base = _bytes(cgroup.base, "cgroup.base")
    if cgroup.path is not None:
        native.cgroup_path = _bytes(cgroup.path, "cgroup.path")
    if cgroup.set:
        native.cgroup_set = _strings([_bytes(f"{k}={v}", "cgroup.set") for k, v in cgroup.set.items()])


def _limit(value: int) -> int:
    return 2**64 - 1 if value == -1 else value


def _set_limits(native: lib.Options, options: ProgramOptions) -> None:
    rlimits = options.get("rlimits")
    if rlimits:
        listed = [lib.Rlimit(which, 0, _limit(soft), _limit(hard)) for which, (soft, hard) in rlimits.items()]
        native.rlimits = (lib.Rlimit * len(listed))(*listed)
        native.nrlimits = len(listed)
    nice = options.get("nice")
    if nice is not None:
        native.nice = nice
        native.flags |= lib.SET_NICE
    umask = options.get("umask", -1)
    if umask >= 0:
        native.umask = umask
        native.flags |= lib.SET_UMASK
    limit = options.get("max_output")
    if limit is not None:
        # No limit is 0 in C.
        if limit < 1:
            raise ValueError(f"max_output: {limit}")
        native.output_limit = limit
    pipesize = options.get("pipesize", -1)
    if pipesize > 0:
        native.pipe_size = pipesize


def _refuse(options: ProgramOptions) -> None:
    """An option that would not do what it says is an error."""
    unknown = set(options) - set(ProgramOptions.__annotations__)
    if unknown:
        raise TypeError(f"unexpected keyword argument {sorted(unknown)[0]!r}")
    if options.get("preexec_fn") is not None:
        raise ValueError("preexec_fn: the program is not started by this process")
    if options.get("startupinfo") is not None or options.get("creationflags", 0):
        raise ValueError("startupinfo and creationflags are only supported on Windows")
    if options.get("process_group"):
        raise ValueError("process_group: each program has a group of its own")
    if not options.get("restore_signals", True):
        raise ValueError("restore_signals: all signals of a program have their default action")


@dataclass(frozen=True)
class Request:
    """What nr_spawn() is called with, and what is to be known afterwards."""

    native: lib.Options
    args: Command
    program: str
    cwd: Optional[str]
    max_output: Optional[int]
    linger: bool
    terminal: bool
    grow: bool  # pipes that are read full


def request(
    args: Command,
    options: ProgramOptions,
    *,
    stdin: File,
    stdout: File,
    stderr: File,
    shell: bool = False,
    timeout: Optional[float] = None,
) -> Request:
    """Checks all arguments. Raises TypeError and ValueError; nothing else has happened then."""
    _refuse(options)
    argv = _argv(args, shell)
    native = lib.Options(size=ctypes.sizeof(lib.Options), flags=lib.ASYNC, argv=_strings(argv))
    program = argv[0]
    executable = options.get("executable")
    if executable is not None:
        program = _bytes(executable, "executable")
        native.file = program
        if shell:
            argv[0] = program
            native.argv = _strings(argv)
    env = options.get("env")
    if env is not None:
        native.env = _strings(_environment(env))
    cwd = options.get("cwd")
    if cwd is not None:
        native.cwd = _bytes(cwd, "cwd")

    pty = options.get("pty", False)
    default = lib.STDIO_AUTO if pty else lib.STDIO_INHERIT
    native.in_ = _stdio(stdin, "stdin", default)
    native.out = _stdio(stdout, "stdout", default)
    native.err = _stdio(stderr, "stderr", default)
    if pty:
        native.flags |= lib.PTY
        if not options.get("echo", True):
            native.flags |= lib.PTY_NOECHO
        if not isinstance(pty, bool):
            native.rows, native.cols = window_size(*pty)
    fds = _fdmap(options)
    if fds:
        native.fds = (lib.Fdmap * len(fds))(*[lib.Fdmap(number, target) for target, number in fds.items()])
        native.nfds = len(fds)

    for name, flag in _FLAGS:
        if options.get(name):
            native.flags |= flag
    _set_ids(native, options)
    _set_limits(native, options)
    cgroup = options.get("cgroup")
    if cgroup is not None:
        _set_cgroup(native, cgroup)
    if timeout is not None:
        # 0 is none in C, and over at once in Python.
        native.timeout_ms = max(1, milliseconds(timeout, "timeout"))
    kill_timeout = options.get("kill_timeout")
    if kill_timeout is not None:
        if kill_timeout < 0:
            raise ValueError(f"kill_timeout: {kill_timeout!r}")
        native.kill_timeout_ms = milliseconds(kill_timeout, "kill_timeout") or lib.KILL_NOW
    shepherd = options.get("shepherd")
    if shepherd is not None:
        native.shepherd = _bytes(shepherd, "shepherd")
    return Request(
        native=native,
        args=args,
        program=os.fsdecode(program),
        cwd=None if cwd is None else os.fsdecode(cwd),
        max_output=options.get("max_output"),
        linger=bool(options.get("linger")),
        terminal=bool(pty),
        grow=options.get("pipesize", -1) <= 0,
    )


_FLAGS = (
    ("start_new_session", lib.SESSION),
    ("linger", lib.LINGER),
    ("own_shepherd", lib.OWN_SHEPHERD),
    ("pid_namespace", lib.PID_NAMESPACE),
    ("no_new_privs", lib.NO_NEW_PRIVS),
)


def window_size(rows: int, columns: int) -> Tuple[int, int]:
    if not (0 < rows < 65536 and 0 < columns < 65536):
        raise ValueError(f"window size: {rows} x {columns}")
    return rows, columns
