# SPDX-License-Identifier: Apache-2.0
"""The job of job.h in asyncio's loop.

    files_asyncio.py [-t MILLISECONDS] COMMAND FILE...

drain() waits while the program does not read, and the stream stops reading when
nobody takes its lines: a slow side slows the other down.
"""

import argparse
import asyncio
import sys
from typing import Optional

from netrunner import Error, Reason
from netrunner.asyncio import PIPE, Process, create_subprocess_shell

CHUNK = 1 << 16


async def feed(program: Process, file: str) -> None:
    assert program.stdin is not None
    with open(file, "rb") as source:
        try:
            while chunk := source.read(CHUNK):
                program.stdin.write(chunk)
                await program.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            pass  # it does not want more
    program.stdin.close()


async def drain(program: Process, file: str) -> None:
    assert program.stdout is not None
    async for line in program.stdout:
        print(f"{file}: {line.decode(errors='surrogateescape').removesuffix(chr(10))}")


async def run(command: str, file: str, timeout: Optional[float]) -> bool:
    try:
        with open(file, "rb"):
            pass
        program = await create_subprocess_shell(command, stdin=PIPE, stdout=PIPE, timeout=timeout)
    except (OSError, Error) as error:
        print(error, file=sys.stderr)
        return False
    async with program:
        await asyncio.gather(feed(program, file), drain(program, file))
        status = await program.wait()
    if program.outcome and program.outcome.reason is Reason.TIMEOUT:
        print(f"{file}: out of time", file=sys.stderr)
    else:
        how = f"exit {status}" if status >= 0 else f"signal {-status}"
        print(f"{file}: {how}", file=sys.stderr)
    return status == 0


async def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("-t", metavar="MILLISECONDS", type=int)
    parser.add_argument("command")
    parser.add_argument("files", nargs="+")
    arguments = parser.parse_args()
    timeout = arguments.t / 1000 if arguments.t else None
    ended = await asyncio.gather(*(run(arguments.command, file, timeout) for file in arguments.files))
    return 0 if all(ended) else 1


sys.exit(asyncio.run(main()))
