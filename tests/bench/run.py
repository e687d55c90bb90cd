#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures netrunner and its peers, in turns, and writes $BUILD/bench/results.json.

    run.py [--blocks=N] [--output=DIRECTORY] [PART]...

Without PART all are measured, else those whose names begin with one of these.

A part is measured in blocks. In each block every variant is run once, as a
process of its own, which takes some samples and ends, and its shepherd with it:
so nothing of one variant is there while another is measured, and what else the
machine does hits all of them. Every second block runs backwards. A ratio is that
of the medians of one block; what is told is the median of the blocks' ratios.
"""

import argparse
import collections
import datetime
import json
import os
import pathlib
import platform
import re
import shutil
import statistics
import subprocess
import sys

import report

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("BUILD", "build"))
BUILD = BUILD if BUILD.is_absolute() else ROOT / BUILD
BENCH = BUILD / "bench"
PEERS = ROOT / "tests/bench/peers"
VENV_PYTHON = BUILD / "python/venv/bin/python"  # which has uvloop
PYTHON = str(VENV_PYTHON) if VENV_PYTHON.exists() else "python3"
BEAM = BENCH / "beam/elixir/_build/prod/lib"

PROGRAM = str(BENCH / "program")
TRUE = "/bin/true"
CAT = "/bin/cat"

ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name != "NETRUNNER_SHEPHERD"},
    "NETRUNNER_LIBRARY": str(BUILD / "libnetrunner.so"),
    "LD_LIBRARY_PATH": str(BUILD),
    "PYTHONPATH": str(ROOT / "bindings/python/src"),
    "PYTHONDONTWRITEBYTECODE": "1",
    "ERL_LIBS": str(BEAM),
    "LC_ALL": "C.UTF-8",
}

# How a variant is run: (a file that it needs, the command up to the measure).
C = ["posix_spawn", "vfork", "netrunner", "netrunner-async"]
LANGUAGES = {
    "Python subprocess": (PYTHON, [PYTHON, PEERS / "peer.py", "subprocess"]),
    "Python netrunner": (PYTHON, [PYTHON, PEERS / "peer.py", "netrunner"]),
    "asyncio": (PYTHON, [PYTHON, PEERS / "peer.py", "asyncio"]),
    "netrunner.asyncio": (PYTHON, [PYTHON, PEERS / "peer.py", "netrunner.asyncio"]),
    "asyncio, uvloop": (PYTHON, [PYTHON, PEERS / "peer.py", "asyncio-uvloop"]),
    "netrunner.asyncio, uvloop": (PYTHON, [PYTHON, PEERS / "peer.py", "netrunner.asyncio-uvloop"]),
    "Rust std": (BUILD / "rust/release/peer", [BUILD / "rust/release/peer", "std"]),
    "Rust netrunner": (BUILD / "rust/release/peer", [BUILD / "rust/release/peer", "netrunner"]),
    "Rust tokio": (BUILD / "rust/release/peer", [BUILD / "rust/release/peer", "tokio"]),
    "Rust netrunner::tokio": (BUILD / "rust/release/peer", [BUILD / "rust/release/peer", "netrunner::tokio"]),
    "Ruby Open3": ("ruby", ["ruby", PEERS / "peer.rb", "Open3"]),
    "Ruby NetRunner": ("ruby", ["ruby", "-I", ROOT / "bindings/ruby/lib", PEERS / "peer.rb", "NetRunner"]),
    "Node child_process": ("node", ["node", PEERS / "peer.js", "node"]),
    "Go os/exec": (BENCH / "goexec", [BENCH / "goexec", "os/exec"]),
}
BEAMS = {
    f"{language} {name}": (BEAM, ["elixir", PEERS / "peer.exs", name])
    for language, name in (
        ("Elixir", "System.cmd"),
        ("Erlang", "port"),
        ("Elixir", "NetRunner.run"),
        ("Erlang", "netrunner:run"),
        ("Elixir", "NetRunner.stream"),
        ("Erlang", "netrunner:fold"),
        ("Elixir", "NetRunner.Process"),
    )
}


def in_c(program, names, *arguments):
    """Variants of a program in C; libuv is one of another program."""
    return {
        name: (BENCH / "uv", [BENCH / "uv", name, *arguments])
        if name == "libuv"
        else (BENCH / program, [BENCH / program, name, *arguments])
        for name in names
    }


def languages(*arguments, beams=(), without=()):
    """Variants of the languages; those of the BEAM differ by what they can do."""
    chosen = {name: how for name, how in LANGUAGES.items() if name not in without}
    chosen.update({name: BEAMS[name] for name in beams})
    return {name: (needs, [*command, *arguments]) for name, (needs, command) in chosen.items()}


def spawns(count, mib, descriptors, program, names):
    return in_c("spawn", names, "spawn", count, mib, descriptors, *program)


def rates(program):
    """Metrics have the number of programs outstanding behind an @."""
    return {
        (name, f"@{n}"): how
        for n in (1, 8, 64)
        for name, how in in_c("spawn", [*C, "libuv"], "rate", max(50, 4 * n), n, *program).items()
    }


def reads():
    mib, program = 1024, [PROGRAM, "write", 1024]
    variants = in_c("stream", ["posix_spawn", "netrunner", "libuv"], "read", mib, 0, *program)
    big = in_c("stream", ["posix_spawn", "netrunner"], "read", mib, 1 << 20, *program)
    return {
        "read(2)": variants["posix_spawn"],
        "netrunner": variants["netrunner"],
        "read(2), 1 MiB pipe": big["posix_spawn"],
        "netrunner, 1 MiB pipe": big["netrunner"],
        "libuv": variants["libuv"],
    }


MODES = [*C, "libuv", "netrunner-own", "netrunner-pidns"]
SPAWN_BEAMS = ["Elixir System.cmd", "Erlang port", "Elixir NetRunner.run", "Erlang netrunner:run"]
READ_BEAMS = [*SPAWN_BEAMS[:3], "Elixir NetRunner.stream", "Erlang netrunner:fold"]

# Part: (blocks, {variant or (variant, what is put behind its metrics): how}).
PARTS = {
    "spawn": (15, spawns(25, 0, 0, [TRUE], MODES)),
    "spawn-tiny": (15, spawns(25, 0, 0, [PROGRAM, "stamp"], MODES)),
    "spawn-big": (
        5,
        spawns(10, 2048, 0, [TRUE], [*C, "libuv"]) | languages("spawn", 10, 2048, TRUE),
    ),
    "spawn-fds": (7, spawns(25, 0, 10000, [TRUE], [*C, "libuv"])),
    "rate": (7, rates([TRUE])),
    "rate-tiny": (7, rates([PROGRAM])),
    "read": (9, reads()),
    "echo": (9, in_c("stream", ["posix_spawn", "netrunner"], "echo", 10, CAT)),
    "turn": (9, in_c("stream", ["posix_spawn", "netrunner"], "turn", 1000, CAT)),
    "turn-pty": (9, in_c("stream", ["posix_spawn", "netrunner"], "turn-pty", 1000, CAT)),
    "calls": (9, {"*": (BENCH / "stream", [BENCH / "stream", "netrunner", "calls", 100, PROGRAM, "idle"])}),
    "idle": (3, in_c("idle", ["posix_spawn", "netrunner"], PROGRAM, 1, 100, 1000, 5000)),
    "teardown": (1, {"*": (BENCH / "teardown", [BENCH / "teardown", 11])}),
    "start": (9, {"netrunner": (BENCH / "start", [BENCH / "start", BUILD / "libnetrunner.so", 0])}),
    "start-idle": (1, {"netrunner": (BENCH / "start", [BENCH / "start", BUILD / "libnetrunner.so", 20])}),
    "languages-spawn": (
        11,
        spawns(25, 0, 0, [TRUE], ["posix_spawn", "netrunner"]) | languages("spawn", 25, 0, TRUE, beams=SPAWN_BEAMS),
    ),
    "languages-read": (
        5,
        in_c("stream", ["posix_spawn", "netrunner"], "read", 256, 0, PROGRAM, "write", 256)
        | languages("read", 256, PROGRAM, "write", 256, beams=READ_BEAMS),
    ),
    "languages-echo": (
        5,
        in_c("stream", ["posix_spawn", "netrunner"], "echo", 10, CAT)
        | languages("echo", 10, CAT, beams=["Erlang port", "Elixir NetRunner.run", "Erlang netrunner:run"]),
    ),
    "languages-turn": (
        5,
        in_c("stream", ["posix_spawn", "netrunner"], "turn", 300, CAT)
        | languages("turn", 300, CAT, beams=["Erlang port", "Elixir NetRunner.Process"]),
    ),
}


def run(command):
    """The samples that a command prints: {(variant or None, metric): [number]}."""
    words = [str(word) for word in command]
    done = subprocess.run(words, env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1])
    samples = collections.defaultdict(list)
    for line in done.stdout.splitlines():
        name, number = line.split()
        variant, _, metric = name.rpartition(":")
        samples[variant or None, metric].append(float(number))
    return samples


def exists(needs):
    return shutil.which(needs) if isinstance(needs, str) else needs.exists()


def measure(name, blocks, variants):
    print(f"\n{name}: {blocks} blocks", flush=True)
    usable = []
    for variant, (needs, command) in variants.items():
        if exists(needs):
            usable.append((variant, command))
        else:
            print(f"  missing: {variant}")
    medians = collections.defaultdict(dict)  # (variant, metric): {block: median}
    pooled = collections.defaultdict(list)
    for block in range(blocks):
        for variant, command in list(usable if block % 2 == 0 else reversed(usable)):
            label, suffix = variant if isinstance(variant, tuple) else (variant, "")
            try:
                samples = run(command)
            except (RuntimeError, OSError, ValueError, subprocess.TimeoutExpired) as error:
                print(f"  missing: {label}{suffix}: {error}", flush=True)
                usable = [(other, how) for other, how in usable if other != variant]
                continue
            for (own, metric), values in samples.items():
                medians[own or label, metric + suffix][block] = statistics.median(values)
                pooled[own or label, metric + suffix] += values
    values = collections.defaultdict(dict)
    for (variant, metric), all_samples in pooled.items():
        low, middle, high = quartiles(all_samples)
        values[variant][metric] = {
            "median": middle,
            "q1": low,
            "q3": high,
            "samples": len(all_samples),
            "blocks": [medians[variant, metric].get(block) for block in range(blocks)],
        }
    return values


def quartiles(samples):
    if len(samples) == 1:
        return samples * 3
    return [round(q, 3) for q in statistics.quantiles(samples, n=4, method="inclusive")]


def first_line(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=ENVIRONMENT)
        return (done.stdout or done.stderr).strip().splitlines()[0]
    except (OSError, IndexError, subprocess.TimeoutExpired):
        return None


def content(path):
    path = pathlib.Path(path)
    return path.read_text().strip() if path.exists() else None


def machine():
    names = re.findall(r"model name\s*: (.*)", content("/proc/cpuinfo"))
    versions = {
        "gcc": first_line("gcc", "--version"),
        "libc": " ".join(platform.libc_ver()),
        "Go": first_line("go", "version"),
        "Python": first_line(PYTHON, "--version"),
        "uvloop": first_line(PYTHON, "-c", "import uvloop; print(uvloop.__version__)"),
        "Ruby": first_line("ruby", "--version"),
        "Node": first_line("node", "--version"),
        "Rust": first_line("rustc", "--version"),
        "Erlang/OTP": first_line("erl", "-noshell", "-eval", "io:put_chars(erlang:system_info(otp_release)), halt()."),
        "Elixir": first_line("elixir", "--short-version"),
        "libuv": first_line("pkg-config", "--modversion", "libuv"),
        "netrunner": first_line("git", "-C", ROOT, "describe", "--always", "--dirty"),
    }
    return {
        "cpu": names[0] if names else platform.machine(),
        "cpus": os.cpu_count(),
        "memory_mib": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20,
        "kernel": platform.release(),
        "huge_pages": content("/sys/kernel/mm/transparent_hugepage/enabled"),
        "autogroup": content("/proc/sys/kernel/sched_autogroup_enabled"),
        "versions": {name: version for name, version in versions.items() if version},
    }


def main(arguments):
    options = argparse.ArgumentParser()
    options.add_argument("--blocks", type=int, help="instead of each part's own number")
    options.add_argument("--output", type=pathlib.Path, default=BENCH)
    options.add_argument("parts", nargs="*")
    options = options.parse_args(arguments)
    wanted = options.parts
    parts = {name: part for name, part in PARTS.items() if not wanted or name.startswith(tuple(wanted))}
    if not parts:
        sys.exit(f"run.py: no such part; there are {', '.join(PARTS)}")
    try:
        os.nice(-10)
    except OSError:
        print("run.py: without a higher priority")
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "results.json"
    results = json.loads(path.read_text()) if wanted and path.exists() else {"parts": {}}
    results["machine"] = machine()
    for name, (blocks, variants) in parts.items():
        load = os.getloadavg()[0]
        date = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M")
        values = measure(name, options.blocks or blocks, variants)
        results["parts"][name] = {"date": date, "load": round(load, 2), "values": values}
        path.write_text(json.dumps(results, indent=1) + "\n")
        print(report.text(report.Results(results), name), flush=True)
    report.draw(report.Results(results), options.output)
    print("\n" + report.targets_text(report.Results(results)))
    print(f"\n{path}, and plots beside it; `make benchdocs` puts them into docs/")


if __name__ == "__main__":
    main(sys.argv[1:])
