# SPDX-License-Identifier: Apache-2.0
"""Runs programs, and leaves nothing of them behind.

    run             a program from start to end: subprocess.run's interface
    Popen           for threads and scripts: subprocess.Popen's interface
    Daemon          keeps a long-lived program running
    netrunner.asyncio   for asyncio, with the same interface as asyncio's own
    netrunner.anyio     for anyio and trio

Programs are started by a shepherd, a small process of its own. A program's
whole tree ends with the program, and all of them end with this process, however
that ends. Docs: README.md.

In a fork() of a process that has used it, every call raises ChildProcessError.
"""

from subprocess import CalledProcessError, SubprocessError, TimeoutExpired
from typing import TYPE_CHECKING, Any

from ._errors import Error, OutputLimitExceeded, ShepherdDied
from ._handle import Outcome, Reason, Statistics
from ._library import version_string as _version_string
from ._options import DEVNULL, PIPE, STDOUT, Cgroup, ProgramOptions
from ._popen import Popen
from ._run import CompletedProcess, run

if TYPE_CHECKING:
    from ._daemon import Backoff
    from ._daemon import ThreadedDaemon as Daemon

__all__ = [
    "DEVNULL",
    "PIPE",
    "STDOUT",
    "Backoff",
    "CalledProcessError",
    "Cgroup",
    "CompletedProcess",
    "Daemon",
    "Error",
    "Outcome",
    "OutputLimitExceeded",
    "Popen",
    "ProgramOptions",
    "Reason",
    "ShepherdDied",
    "Statistics",
    "SubprocessError",
    "TimeoutExpired",
    "run",
]

__version__: str = _version_string().decode()


def __getattr__(name: str) -> Any:
    # They need asyncio, which takes longer to import than all the rest.
    if name == "Daemon":
        from ._daemon import ThreadedDaemon

        return ThreadedDaemon
    if name == "Backoff":
        from ._daemon import Backoff

        return Backoff
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
