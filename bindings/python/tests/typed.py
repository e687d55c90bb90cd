# SPDX-License-Identifier: Apache-2.0
"""What type checkers have to make of the package. It is checked, not run."""

import asyncio
import resource
import subprocess
from typing import IO, Optional, Tuple

import netrunner
import netrunner.asyncio
from netrunner import PIPE, Cgroup, CompletedProcess, Daemon, Outcome, Popen, Statistics


def of_run() -> None:
    text: CompletedProcess[str] = netrunner.run(["x"], text=True, capture_output=True)
    more: CompletedProcess[str] = netrunner.run("x", encoding="utf-8", input="x", timeout=1.5)
    data: CompletedProcess[bytes] = netrunner.run(["x"], input=b"x", max_output=5, pty=(24, 80))
    out: str = text.stdout + more.stdout
    raw: bytes = data.stdout
    std: subprocess.CompletedProcess[bytes] = data
    outcome: Outcome = data.outcome
    memory: Optional[int] = data.stats.memory_peak
    netrunner.run(["x"], cgroup=Cgroup(base="x", set={"memory.max": 5}), rlimits={resource.RLIMIT_NOFILE: (1, 2)})
    netrunner.run(["x"], no_such_option=True)  # type: ignore[call-overload]
    netrunner.run(["x"], timeout="x")  # type: ignore[call-overload]
    print(out, raw, std, outcome, memory)


def of_popen() -> None:
    text: Popen[str] = Popen(["x"], text=True, stdin=PIPE)
    data: Popen[bytes] = Popen(["x"], stdout=PIPE)
    stream: Optional[IO[str]] = text.stdout
    both: Tuple[bytes, bytes] = data.communicate(b"x", timeout=1)
    with data as same:
        code: int = same.wait()
    stats: Statistics = data.stats()
    print(stream, both, code, stats)


async def of_asyncio() -> None:
    program: netrunner.asyncio.Process = await netrunner.asyncio.create_subprocess_exec("x", "y", stdin=PIPE)
    standard: asyncio.subprocess.Process = program
    async with program as same:
        code: int = await same.wait()
    done = await netrunner.asyncio.run(["x"], text=True)
    transport, protocol = await netrunner.asyncio.subprocess_exec(asyncio.SubprocessProtocol, "x")
    kept: asyncio.SubprocessProtocol = protocol
    base: asyncio.SubprocessTransport = transport
    async with netrunner.asyncio.Daemon(["x"], stdout=print, restart="always") as daemon:
        pid: Optional[int] = daemon.pid
    netrunner.asyncio.Daemon(["x"], restart="sometimes")  # type: ignore[arg-type]
    print(standard, code, done, kept, base, pid)


def of_daemon() -> None:
    with Daemon(["x"], restart="on-failure", backoff=netrunner.Backoff()) as daemon:
        outcome: Optional[Outcome] = daemon.outcome
    print(outcome)
