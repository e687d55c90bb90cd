#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a program costs that doesn't depend on how busy the machine is: system calls
of host, shepherd and the program's set-up, and instructions of the byte path. More
than expected.json says is a failure.

    counts.py               checks; ends with a line that counts
    counts.py --expect      measures what is to be expected from now on

A workload is traced with two numbers of runs, and the difference divided by that
of the numbers: what happens once is not counted. Calls of the Go runtime aren't
either. Of those that depend on scheduling and on what else the machine does, only
a multiple is too much. What exceeds is traced again: noise comes and goes, growth
stays.
"""

import collections
import contextlib
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / os.environ.get("BUILD", "build")
EXPECTED = pathlib.Path(__file__).with_name("expected.json")
PROGRAM = str(BUILD / "bench/program")

# Of the Go runtime and of locks: how often depends on who is scheduled when.
UNCOUNTED = set(
    "epoll_pwait exit futex getpid gettid madvise mmap mprotect munmap nanosleep newfstatat restart_syscall rseq"
    " rt_sigaction rt_sigreturn sched_yield set_robust_list sigaltstack tgkill".split()
)
SLACK = 0.75  # calls per run; one more each time is a growth
ATTEMPTS = 4
MORE_INSTRUCTIONS = 4
EXPECT_RUNS = 5  # beside nothing, and again beside other work

# Name: (command, two numbers of runs).
WORKLOADS = {
    "spawn, wait, release": (["spawn", "netrunner", "spawn", "N", "0", "0", "/bin/true"], (10, 60)),
    "the same with NR_ASYNC": (["spawn", "netrunner-async", "spawn", "N", "0", "0", "/bin/true"], (10, 60)),
    "spawn, kill, wait, release": (["idle", "netrunner", PROGRAM, "N"], (10, 60)),
    "4,113 reads and writes, ours and plain": (["stream", "netrunner", "calls", "N", PROGRAM, "idle"], (1, 3)),
}

CALL = re.compile(r"(\w+)\(")
CHILD = re.compile(r"(?:clone|clone3|fork|vfork)\(.*= (\d+)(?: .*)?$")


def command_line(command, n):
    return [str(BUILD / "bench" / command[0]), *(str(n) if word == "N" else word for word in command[1:])]


def trace(command):
    """System calls: {"host: read": n}. Of programs, those before their execve."""
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(
            ["strace", "-ff", "-qq", "-o", f"{directory}/of", *command],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            timeout=300,
        )
        threads = {
            int(path.suffix[1:]): path.read_text(errors="replace").splitlines()
            for path in pathlib.Path(directory).iterdir()
        }
    process_of = {}  # thread: the process that made it a thread
    children = set()
    for thread, lines in threads.items():
        for match in filter(None, map(CHILD.match, lines)):
            child = int(match[1])
            if "CLONE_THREAD" in match[0]:
                process_of[child] = thread
            else:
                children.add(child)
    counts = collections.Counter()
    for thread, lines in threads.items():
        process = thread
        while process in process_of:
            process = process_of[process]
        if process not in children:
            who = "host"
        elif any(line.startswith("execve(") and "netrunner-shepherd" in line for line in threads.get(process, ())):
            who = "shepherd"
        else:
            who = "program"
        for line in lines:
            match = CALL.match(line)
            if not match:
                continue
            if match[1] not in UNCOUNTED:
                counts[f"{who}: {match[1]}"] += 1
            if who == "program" and match[1].startswith("execve"):
                break
    return counts


def patient_trace(command):
    """Again if it fails: a shepherd that is traced may start too late on a busy machine."""
    for _ in range(ATTEMPTS - 1):
        with contextlib.suppress(subprocess.SubprocessError):
            return trace(command)
    return trace(command)


def calls_per_run(command, numbers):
    few, many = (patient_trace(command_line(command, n)) for n in numbers)
    return {call: (many[call] - few[call]) / (numbers[1] - numbers[0]) for call in many | few}


def limit(expected, call):
    """A call more each time is too much; of what varies only a multiple is."""
    if call in expected["varying"]:
        return 2 * expected["varying"][call] + 3
    n = expected["steady"].get(call, 0)
    return n + max(SLACK, n / 100)


def check_calls(name, expected):
    """The calls that are more than expected, in each of some attempts."""
    command, numbers = WORKLOADS[name]
    least = calls_per_run(command, numbers)
    for _ in range(ATTEMPTS):
        grown = sorted(call for call, n in least.items() if n > limit(expected, call))
        if not grown:
            break
        again = calls_per_run(command, numbers)
        least = {call: min(n, again.get(call, 0)) for call, n in least.items()}
    return [f"{call}: {least[call]:g} times, at most {limit(expected, call):g} expected" for call in grown]


@contextlib.contextmanager
def other_work():
    """Programs that start programs: what depends on what else the machine does shows."""
    busy = [subprocess.Popen(["sh", "-c", "while :; do /bin/true; done"]) for _ in range(2)]
    try:
        yield
    finally:
        for one in busy:
            one.kill()
            one.wait()


def expected_calls(name):
    command, numbers = WORKLOADS[name]
    traces = [calls_per_run(command, numbers) for _ in range(EXPECT_RUNS)]
    with other_work():
        traces += [calls_per_run(command, numbers) for _ in range(EXPECT_RUNS)]
    expected = {"steady": {}, "varying": {}}
    for call in sorted({call for trace in traces for call in trace}):
        numbers = [trace.get(call, 0) for trace in traces]
        most = max(numbers)
        noise = max(0.2, most / 100)
        steady = most >= 0.8 and most - min(numbers) <= noise and abs(most - round(most)) <= noise
        if most > 0:
            expected["steady" if steady else "varying"][call] = round(most, 2)
    return expected


def instructions():
    """Per nr_read and nr_write, each of 3 rounds of 4,113."""
    found = {}
    for function in ("nr_read", "nr_write"):
        done = subprocess.run(
            ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", f"--toggle-collect={function}"]
            + command_line(WORKLOADS["4,113 reads and writes, ours and plain"][0], 2),
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
        )
        # Its forks say something, too.
        found[function] = max(map(int, re.findall(r"Collected : (\d+)", done.stderr))) / (3 * 4113)
    assert all(found.values())
    return found


def check_instructions(expected):
    return [
        f"{function}: {n:.1f} instructions, not {expected[function]:.1f}"
        for function, n in instructions().items()
        if n > expected[function] + MORE_INSTRUCTIONS
    ]


def check_runner():
    """That `make bench` works: it is run too rarely for that to be seen."""
    with tempfile.TemporaryDirectory() as directory:
        runner = pathlib.Path(__file__).with_name("run.py")
        command = [
            sys.executable,
            runner,
            "--blocks=1",
            f"--output={directory}",
            "spawn-tiny",
            "read",
            "calls",
            "start",
        ]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            return [done.stderr]
        parts = json.loads(pathlib.Path(directory, "results.json").read_text())["parts"]
        missing = [f"{part}: netrunner is missing" for part in parts if "netrunner" not in parts[part]["values"]]
        plots = {path.name for path in pathlib.Path(directory).glob("*.svg")}
        return missing + ([] if "read.svg" in plots else [f"no read.svg among {plots}"])


def version(release):
    return [int(number) for number in re.findall(r"\d+", release)[:2]]


def unusable(expected):
    """Why system calls can't be compared here, or None."""
    if not shutil.which("strace"):
        return "no strace"
    if platform.machine() != expected["machine"]:
        return f"expected.json is of {expected['machine']}"
    if version(platform.release()) < version(expected["kernel"]):
        return f"expected.json is of Linux {expected['kernel']}, this one may do without some of its calls"
    with tempfile.NamedTemporaryFile() as file:
        done = subprocess.run(["strace", "-f", "-o", file.name, "true"], capture_output=True, text=True)
    return None if done.returncode == 0 else "ptrace is not allowed: " + done.stderr.strip().splitlines()[-1]


def unusable_for_instructions(expected):
    if not shutil.which("valgrind"):
        return "no valgrind"
    if [platform.machine(), compiler()] != [expected["machine"], expected["compiler"]]:
        return f"expected.json is of {expected['machine']} and {expected['compiler']}"
    return None


def compiler():
    return subprocess.run(["gcc", "--version"], capture_output=True, text=True).stdout.partition("\n")[0]


def check():
    expected = json.loads(EXPECTED.read_text())
    no_trace = unusable(expected)
    no_valgrind = unusable_for_instructions(expected)
    tests = [(name, no_trace, lambda name=name: check_calls(name, expected["calls"][name])) for name in WORKLOADS]
    tests.append(("instructions of the byte path", no_valgrind, lambda: check_instructions(expected["instructions"])))
    tests.append(("make bench", None, check_runner))
    counts = collections.Counter()
    for name, skipped, test in tests:
        if skipped:
            print(f"skip {name}: {skipped}")
            counts["skipped"] += 1
            continue
        try:
            faults = test()
        except (subprocess.SubprocessError, OSError) as error:
            faults = [str(error)]
        print(f"{'FAIL' if faults else 'ok  '} {name}", *faults, sep="\n     ")
        counts["failed" if faults else "passed"] += 1
    if counts["failed"]:
        print("If that is meant to be: make benchexpect")
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    return 1 if counts["failed"] else 0


def expect():
    expected = {
        "machine": platform.machine(),
        "compiler": compiler(),
        "kernel": ".".join(map(str, version(platform.release()))),
        "calls": {name: expected_calls(name) for name in WORKLOADS},
        "instructions": {function: round(n, 1) for function, n in instructions().items()},
    }
    EXPECTED.write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(expect() if sys.argv[1:] == ["--expect"] else check())
