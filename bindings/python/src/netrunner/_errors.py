# SPDX-License-Identifier: Apache-2.0
"""Exceptions. What subprocess has is subprocess's."""

from __future__ import annotations

import builtins
import errno
import os
import subprocess
from typing import Any, Dict, Optional, Tuple, Type

from . import _library as lib


class Error(OSError):
    """A program could not be started, or a call of the library failed.

    Each is also the built-in exception for its errno, where there is one: a
    missing program is both this and a `FileNotFoundError`.

    errno       the number
    strerror    the library's own words: which step failed, and on what
    why         the same
    filename    the program (or the directory, where `cwd` is at fault)
    """

    @property
    def why(self) -> str:
        """One line of text that says which step failed, and on what."""
        return str(self.strerror)

    def __reduce__(self) -> Tuple[Any, ...]:
        return error, (self.errno, self.strerror, self.filename)


class ShepherdDied(Error):
    """The shepherd was killed by force (errno EOWNERDEAD).

    The tree has been killed; how the program ended is not known.
    """


def _combined(base: Type[OSError]) -> Type[Error]:
    """A class that is both an Error and the built-in one of its errno."""
    return type(base.__name__, (Error, base), {"__module__": __name__, "__doc__": base.__doc__})


_builtin = (
    BlockingIOError,
    BrokenPipeError,
    ChildProcessError,
    FileExistsError,
    FileNotFoundError,
    InterruptedError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
    ProcessLookupError,
    TimeoutError,
)
_combinations: Dict[type, Type[Error]] = {base: _combined(base) for base in _builtin}


def error(number: int, why: Optional[str] = None, filename: Optional[str] = None) -> Error:
    """The exception for an error number, positive or negative."""
    number = abs(number)
    if not why:
        why = lib.message(-number)
    if number in (errno.EMFILE, errno.ENFILE):
        why += " (a running program takes up to four descriptors; RLIMIT_NOFILE is the limit)"
    if number == errno.ECHILD:
        why = (
            "this is a fork of a process that has used netrunner, and can't use it;"
            " start it by 'spawn' or 'forkserver' instead, or fork before the first program"
        )
    cls: Type[Error]
    if number == errno.EOWNERDEAD:
        cls = ShepherdDied
    else:
        # OSError knows which of its subclasses belongs to which errno.
        cls = _combinations.get(type(builtins.OSError(number, "")), Error)
    return cls(number, why) if filename is None else cls(number, why, filename)


def spawn_error(number: int, why: str, program: str, cwd: Optional[str]) -> Error:
    """The exception for a failed spawn, with the file name that is to blame."""
    blame = cwd if cwd is not None and why.startswith("chdir ") else program
    return error(number, why, os.fspath(blame))


class OutputLimitExceeded(subprocess.SubprocessError):
    """The program wrote more than `max_output` bytes; its tree has been killed.

    cmd         the arguments
    limit       max_output
    output      what was read of stdout before, if it was captured (also: stdout)
    stderr      the same of stderr
    """

    def __init__(self, cmd: Any, limit: int, output: Any = None, stderr: Any = None) -> None:
        super().__init__(cmd, limit, output, stderr)
        self.cmd = cmd
        self.limit = limit
        self.output = output
        self.stderr = stderr

    def __str__(self) -> str:
        return f"Command {self.cmd!r} wrote more than {self.limit} bytes"

    @property
    def stdout(self) -> Any:
        """Alias for output."""
        return self.output

    @stdout.setter
    def stdout(self, value: Any) -> None:
        self.output = value
