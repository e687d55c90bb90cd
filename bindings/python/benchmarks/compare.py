# SPDX-License-Identifier: Apache-2.0
"""netrunner.asyncio beside asyncio, in the same loop, block by block in turn.

    python benchmarks/compare.py [--uvloop] [--blocks N]

Prints medians, and their ratio, which is all that says something about other
machines. The targets: spawn at most 0.8 of asyncio's time, throughput at least
3 times asyncio's.
"""

import argparse
import asyncio
import statistics
import sys
import time

import netrunner.asyncio

PIPE = asyncio.subprocess.PIPE
SPAWNS = 25
VARIANTS = {"netrunner": netrunner.asyncio.create_subprocess_exec, "asyncio": asyncio.create_subprocess_exec}


def cpu():
    return time.process_time()


async def spawn(create):
    """From the call to the end seen, in ms."""
    times = []
    for _ in range(SPAWNS):
        started = time.perf_counter()
        await (await create("/bin/true")).wait()
        times.append((time.perf_counter() - started) * 1e3)
    return statistics.median(times)


async def start(create):
    """From the call to a Process, in ms."""
    times = []
    for _ in range(SPAWNS):
        started = time.perf_counter()
        program = await create("/bin/true")
        times.append((time.perf_counter() - started) * 1e3)
        await program.wait()
    return statistics.median(times)


async def talk(create):
    """Three pipes and communicate(), in ms."""
    times = []
    for _ in range(SPAWNS):
        started = time.perf_counter()
        program = await create("/bin/cat", stdin=PIPE, stdout=PIPE, stderr=PIPE)
        await program.communicate(b"hello")
        times.append((time.perf_counter() - started) * 1e3)
    return statistics.median(times)


async def blocked(create):
    """How much of this process's CPU time a spawn takes, in ms."""
    started = cpu()
    for _ in range(SPAWNS):
        await (await create("/bin/true")).wait()
    return (cpu() - started) / SPAWNS * 1e3


async def together(create):
    """100 programs at once, to the end of all, in ms."""

    async def one():
        program = await create("/bin/cat", stdin=PIPE, stdout=PIPE)
        await program.communicate(b"hello")

    started = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(100)))
    return (time.perf_counter() - started) * 1e3


def reading(size, command, total):
    async def read(create):
        program = await create(*command, stdout=PIPE)
        started, n = time.perf_counter(), 0
        while True:
            data = await program.stdout.read(size)
            if not data:
                break
            n += len(data)
        seconds = time.perf_counter() - started
        await program.wait()
        assert n == total, n
        return n / 2**20 / seconds

    return read


async def collect(create):
    """communicate(), in MiB/s."""
    total = 256 * 2**20
    program = await create("head", "-c", str(total), "/dev/zero", stdout=PIPE)
    started = time.perf_counter()
    output, _ = await program.communicate()
    assert len(output) == total
    return total / 2**20 / (time.perf_counter() - started)


TOTAL = 512 * 2**20
HEAD = ["head", "-c", str(TOTAL), "/dev/zero"]
DD = ["dd", "if=/dev/zero", "bs=1M", f"count={TOTAL // 2**20}", "status=none"]
CASES = [
    ("spawn to end /bin/true", "ms", spawn),
    ("spawn to Process", "ms", start),
    ("cat, 3 pipes, communicate", "ms", talk),
    ("CPU time of the host per spawn", "ms", blocked),
    ("100 x cat at once", "ms", together),
    ("read(64 KiB) of dd bs=1M", "MiB/s", reading(2**16, DD, TOTAL)),
    ("read(256 KiB) of dd bs=1M", "MiB/s", reading(2**18, DD, TOTAL)),
    ("read(64 KiB) of head", "MiB/s", reading(2**16, HEAD, TOTAL)),
    ("read(256 KiB) of head", "MiB/s", reading(2**18, HEAD, TOTAL)),
    ("communicate, 256 MiB", "MiB/s", collect),
]


async def main(blocks, wanted):
    print(f"{'':32} {'netrunner':>10} {'asyncio':>10} {'ratio':>7}")
    for name, unit, case in CASES:
        if wanted not in name:
            continue
        results = {variant: [] for variant in VARIANTS}
        for _ in range(blocks):
            for variant, create in VARIANTS.items():
                results[variant].append(await case(create))
        ours, theirs = (statistics.median(results[variant]) for variant in VARIANTS)
        print(f"{name:32} {ours:10.2f} {theirs:10.2f} {ours / theirs:7.2f}  {unit}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--uvloop", action="store_true")
    parser.add_argument("--blocks", type=int, default=9)
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose name contains it")
    args = parser.parse_args()
    print(f"Python {sys.version.split()[0]}, {'uvloop' if args.uvloop else 'asyncio'}'s loop")
    if args.uvloop:
        import uvloop

        uvloop.run(main(args.blocks, args.only))
    else:
        asyncio.run(main(args.blocks, args.only))
