#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Shows where the time of a spawn goes, by the kernel's tracepoints.

    stages.py [PROGRAM [ARGUMENT]...]

Runs PROGRAM, /bin/true by default, some hundred times with posix_spawn(3) and
with nr_spawn(), under perf(1), as root, and tells the median and the quartiles
of each stage in microseconds. Tracing adds to all of them. The machine should
have nothing else to do: what another process does may be taken for ours.
"""

import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

import run

COUNT, WARM_UP = 200, 20
HOST = "spawn"  # the comm of the benchmark

# The numbers of <asm/unistd_64.h>; those of <asm-generic/unistd.h> where the
# machine has these.
NUMBERS = {
    "x86_64": {
        "poll": 7,
        "sendmsg": 46,
        "socketpair": 53,
        "clone": 56,
        "execve": 59,
        "wait4": 61,
        "waitid": 247,
        "epoll_pwait": 281,
        "pipe2": 293,
    },
    "aarch64": {
        "poll": 73,
        "sendmsg": 211,
        "socketpair": 199,
        "clone": 220,
        "execve": 221,
        "wait4": 260,
        "waitid": 95,
        "epoll_pwait": 22,
        "pipe2": 59,
    },
}[os.uname().machine] | {"clone3": 435}

LINE = re.compile(r"\s*(.+?)\s+(\d+) \[(\d+)\] ([\d.]+):\s+\w+:(\w+): (.*)")


class Event:
    def __init__(self, comm, tid, _cpu, seconds, name, text):
        self.comm, self.tid, self.us, self.name, self.text = comm, int(tid), float(seconds) * 1e6, name, text
        number = re.search(r"NR (\d+)", text) if name.startswith("sys_") else None
        self.call = int(number[1]) if number else None

    def enters(self, *calls):
        return self.name == "sys_enter" and self.call in [NUMBERS[call] for call in calls]

    def leaves(self, *calls):
        return self.name == "sys_exit" and self.call in [NUMBERS[call] for call in calls]


def trace(way, program):
    wanted = "||".join(f"id=={number}" for number in NUMBERS.values())
    with tempfile.TemporaryDirectory() as directory:
        data = f"{directory}/perf.data"
        record = ["perf", "record", "-q", "-a", "-o", data]
        for event in ("sys_enter", "sys_exit"):
            record += ["-e", f"raw_syscalls:{event}", "--filter", wanted]
        record += ["-e", "sched:sched_process_exec", "-e", "sched:sched_process_exit"]
        command = [str(run.BENCH / "spawn"), way, "spawn", str(COUNT), "0", "0", *program]
        subprocess.run(record + command, check=True, stdout=subprocess.DEVNULL)
        script = ["perf", "script", "-i", data, "-F", "comm,tid,cpu,time,event,trace"]
        lines = subprocess.run(script, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    return [Event(*match.groups()) for match in map(LINE.match, lines) if match]


class Missing(Exception):
    """A spawn of which the trace has not all."""


def find(events, start, step, wanted):
    for i in range(start, max(-1, start - 4000) if step < 0 else min(len(events), start + 4000), step):
        if wanted(events[i]):
            return i
    raise Missing


def times(events, executed, ours):
    """When the stages of one spawn begin, and the last one ends."""
    pid = events[executed].tid

    def before(i, wanted):
        return find(events, i, -1, wanted)

    def after(i, wanted):
        return find(events, i, 1, wanted)

    execve = before(executed, lambda e: e.enters("execve") and e.tid == pid)
    ended = after(executed, lambda e: e.name == "sched_process_exit" and e.tid == pid)
    if not ours:
        clone = before(execve, lambda e: e.enters("clone", "clone3") and e.comm == HOST)
        begin = before(clone, lambda e: e.enters("pipe2") and e.comm == HOST)
        seen = after(ended, lambda e: e.leaves("wait4", "waitid") and e.comm == HOST)
        points = [begin, clone, execve, executed, ended, seen]
    else:
        clone = before(execve, lambda e: e.enters("clone3"))
        leader = events[clone].tid
        woken = before(clone, lambda e: e.leaves("epoll_pwait") and e.tid == leader)
        sent = before(woken, lambda e: e.enters("sendmsg") and e.comm == HOST)
        begin = before(sent, lambda e: e.enters("socketpair") and e.comm == HOST)
        noticed = after(ended, lambda e: e.leaves("epoll_pwait") and e.comm != HOST)
        told = after(noticed, lambda e: e.enters("sendmsg") and e.tid == events[noticed].tid)
        seen = after(told, lambda e: e.leaves("poll") and e.comm == HOST)
        points = [begin, sent, woken, clone, execve, executed, ended, noticed, told, seen]
    return [events[i].us for i in points]


STAGES = {
    "posix_spawn": [
        "host: pipes",
        "clone, to execve(2) in the child",
        "execve(2)",
        "the program",
        "its end, until the host sees it",
    ],
    "netrunner": [
        "host: sockets, pipes, request",
        "the shepherd's leader wakes up",
        "leader: request, umask",
        "clone3(2), to execve(2) in the child",
        "execve(2)",
        "the program",
        "its end, until the shepherd sees it",
        "shepherd: rest of the group, status",
        "the host wakes up",
    ],
}


def report(way, program):
    events = trace(way, program)
    name = pathlib.Path(program[0]).name
    spawns = [i for i, e in enumerate(events) if e.name == "sched_process_exec" and f"/{name} " in f"{e.text} "]
    samples = []
    for i in spawns[WARM_UP:]:
        try:
            samples.append(times(events, i, way == "netrunner"))
        except Missing:
            continue
    if len(samples) < COUNT / 2:
        sys.exit(f"stages.py: {way}: only {len(samples)} of {COUNT} spawns are in the trace")
    print(f"| {way}, {len(samples)} spawns | us | quartiles |\n| --- | ---: | ---: |")
    stages = [[later - earlier for earlier, later in zip(s, s[1:])] for s in samples]
    columns = [*zip(*stages), [s[-1] - s[0] for s in samples]]
    for stage, column in zip([*STAGES[way], "all"], columns):
        low, middle, high = statistics.quantiles(column, n=4)
        print(f"| {stage} | {middle:.0f} | {low:.0f} to {high:.0f} |")
    print()


def main():
    program = sys.argv[1:] or [run.TRUE]
    for way in STAGES:
        report(way, program)


if __name__ == "__main__":
    main()
