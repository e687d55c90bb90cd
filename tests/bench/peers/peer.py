# SPDX-License-Identifier: Apache-2.0
"""Python: subprocess, asyncio, and the binding's counterparts.

    peer.py VARIANT spawn COUNT MIB PROGRAM [ARGUMENT]...
    peer.py VARIANT read MIB PROGRAM [ARGUMENT]...
    peer.py VARIANT echo MIB PROGRAM [ARGUMENT]...
    peer.py VARIANT turn COUNT PROGRAM [ARGUMENT]...

The samples are those of spawn.c and stream.c.
"""

import asyncio
import mmap
import subprocess
import sys
import time

WARM_UP = 3
PIECE = 1 << 16
PIPE = subprocess.PIPE
PIPES = {"stdin": PIPE, "stdout": PIPE, "stderr": PIPE}
now = time.perf_counter


def sample(name, value):
    print(name, round(value, 2))


def spawned(n, started, blocked, ended):
    if n >= 0:
        sample("blocked", (blocked - started) * 1e6)
        sample("exit", (ended - started) * 1e6)


def has_read(mib, seconds, cpu):
    sample("read", mib / seconds)
    sample("cpu", cpu * 1e3)


def blocking(popen, what, count, argv):
    if what == "spawn":
        for n in range(-WARM_UP, count):
            started = now()
            program = popen(argv, **PIPES)
            blocked = now()
            program.wait()
            spawned(n, started, blocked, now())
            for pipe in (program.stdin, program.stdout, program.stderr):
                pipe.close()
    elif what == "read":
        program = popen(argv, bufsize=0, stdout=PIPE)
        started, cpu, left = now(), time.process_time(), count << 20
        while piece := program.stdout.read(PIECE):
            left -= len(piece)
        has_read(count, now() - started, time.process_time() - cpu)
        assert left == 0 and program.wait() == 0
        program.stdout.close()
    elif what == "echo":
        data = bytes(count << 20)
        program = popen(argv, stdin=PIPE, stdout=PIPE)
        started = now()
        output, _ = program.communicate(data)
        sample("echo", (now() - started) * 1e3)
        assert len(output) == len(data)
    elif what == "turn":
        program = popen(argv, bufsize=0, stdin=PIPE, stdout=PIPE)
        for n in range(-50, count):
            started = now()
            program.stdin.write(b"x")
            program.stdout.read(1)
            if n >= 0:
                sample("turn", (now() - started) * 1e6)
        program.stdin.close()
        program.wait()
        program.stdout.close()


async def asynchronous(create, what, count, argv):
    if what == "spawn":
        for n in range(-WARM_UP, count):
            started = now()
            program = await create(*argv, **PIPES)
            blocked = now()
            await program.wait()
            spawned(n, started, blocked, now())
            program.stdin.close()
    elif what == "read":
        program = await create(*argv, stdout=PIPE)
        started, cpu, left = now(), time.process_time(), count << 20
        while piece := await program.stdout.read(PIECE):
            left -= len(piece)
        has_read(count, now() - started, time.process_time() - cpu)
        assert left == 0 and await program.wait() == 0
    elif what == "echo":
        data = bytes(count << 20)
        program = await create(*argv, stdin=PIPE, stdout=PIPE)
        started = now()
        output, _ = await program.communicate(data)
        sample("echo", (now() - started) * 1e3)
        assert len(output) == len(data)
    elif what == "turn":
        program = await create(*argv, stdin=PIPE, stdout=PIPE)
        for n in range(-50, count):
            started = now()
            program.stdin.write(b"x")
            await program.stdout.read(1)
            if n >= 0:
                sample("turn", (now() - started) * 1e6)
        program.stdin.close()
        await program.wait()


def main(variant, what, count, *argv):
    if what == "spawn":
        mib, *argv = argv
        memory = mmap.mmap(-1, max(int(mib), 1) << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        for _ in range(int(mib)):
            memory.write(b"x" * (1 << 20))
    if variant == "subprocess":
        blocking(subprocess.Popen, what, int(count), argv)
    elif variant == "netrunner":
        import netrunner

        blocking(netrunner.Popen, what, int(count), argv)
    else:
        run, create = asyncio.run, asyncio.create_subprocess_exec
        if variant.startswith("netrunner.asyncio"):
            import netrunner.asyncio

            create = netrunner.asyncio.create_subprocess_exec
        if variant.endswith("uvloop"):
            import uvloop

            run = uvloop.run
        run(asynchronous(create, what, int(count), argv))


main(*sys.argv[1:])
