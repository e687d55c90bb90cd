#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tables, targets and plots of what run.py has measured.

report.py     puts $BUILD/bench/results.json into docs/performance/, draws its
              plots there, and fills in the parts of docs/performance.md that
              are between <!-- bench:NAME --> and <!-- bench -->
"""

import dataclasses
import html
import json
import math
import os
import pathlib
import re
import shutil
import statistics

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs/performance"


class Results:
    """What was measured. All that was not is None."""

    def __init__(self, data):
        self.data = data

    def values(self, part):
        return self.data["parts"].get(part, {}).get("values", {})

    def one(self, part, variant, metric):
        return self.values(part).get(variant, {}).get(metric)

    def median(self, part, variant, metric):
        value = self.one(part, variant, metric)
        return value and value["median"]

    def ratio(self, part, variant, metric, base, base_metric=None):
        """The median of the blocks' ratios."""
        ours, theirs = self.one(part, variant, metric), self.one(part, base, base_metric or metric)
        if not ours or not theirs:
            return None
        ratios = [a / b for a, b in zip(ours["blocks"], theirs["blocks"]) if a is not None and b]
        return statistics.median(ratios) if ratios else None

    def difference(self, part, variant, metric, base):
        ours, theirs = self.median(part, variant, metric), self.median(part, base, metric)
        return None if ours is None or theirs is None else ours - theirs

    def each(self, part, variant, metric, n):
        """What one more program adds, from the first to the n-th."""
        first, last = (self.median(part, variant, f"{metric}@{k}") for k in (1, n))
        return None if first is None or last is None else (last - first) / (n - 1)


@dataclasses.dataclass
class View:
    """A table: variants by metrics, and by how much they differ from the base."""

    part: str
    title: str
    base: str
    metrics: dict  # metric: heading


SPAWN = {"exit": "exit seen, µs", "blocked": "caller blocked, µs"}
STAMP = {"running": "running, µs", **SPAWN, "switches": "shepherd's context switches"}
SHEPHERD = {**SPAWN, "switches": "shepherd's context switches"}
RATE = {f"rate@{n}": f"{n} outstanding, 1/s" for n in (1, 8, 64)}
SIZES = {1: "1 B", 4096: "4 KiB", 65536: "64 KiB"}

VIEWS = {
    "spawn": View("spawn", "Spawn of /bin/true, three pipes", "posix_spawn", SHEPHERD),
    "spawn-tiny": View("spawn-tiny", "Spawn of a tiny static program, three pipes", "posix_spawn", STAMP),
    "spawn-big": View("spawn-big", "Spawn of /bin/true from a host with 2 GiB of touched memory", "posix_spawn", SPAWN),
    "spawn-fds": View("spawn-fds", "Spawn of /bin/true from a host with 10,000 descriptors", "posix_spawn", SPAWN),
    "rate": View("rate", "Spawns of /bin/true per second", "posix_spawn", RATE),
    "rate-tiny": View("rate-tiny", "Spawns of a tiny static program per second", "posix_spawn", RATE),
    "read": View("read", "1 GiB of output, 64 KiB a read", "read(2)", {"read": "MiB/s", "cpu": "the host's CPU, ms"}),
    "echo": View("echo", "10 MiB through cat and back", "posix_spawn", {"echo": "ms"}),
    "turn": View("turn", "One byte through cat and back, by pipes", "posix_spawn", {"turn": "µs"}),
    "turn-pty": View("turn-pty", "One line through cat and back, by a terminal", "posix_spawn", {"turn": "µs"}),
    "calls": View(
        "calls",
        "nr_read and nr_write beside read(2) and write(2), on the same pipe",
        "raw",
        {f"{call}@{size}": f"{call} {name}, ns" for call in ("read", "write") for size, name in SIZES.items()},
    ),
    "growth": View(
        "idle",
        "Spawn of /bin/true beside idle programs, exit seen",
        "posix_spawn",
        {f"exit@{n}": f"{n:,} idle, µs" for n in (1, 100, 1000, 5000)},
    ),
    "teardown": View(
        "teardown",
        "Ending one program among others, kill to end seen",
        "kill",
        {f"end@{n}": f"{n:,} others, µs" for n in (0, 10, 100, 1000, 2500)},
    ),
    "death": View(
        "teardown",
        "Death of all programs: kill(2) in a loop, and SIGKILL of the host",
        "kill",
        {f"death@{n}": f"{n:,} programs, µs" for n in (1, 100, 1000)},
    ),
    "start": View(
        "start",
        "Loading the library",
        "netrunner",
        {"dlopen": "dlopen, ms", "first": "first spawn, ms", "kib": "private memory of both, KiB"},
    ),
    "start-idle": View(
        "start-idle",
        "A host that idles",
        "netrunner",
        {"host_wakeups": "its context switches per s", "shepherd_wakeups": "the shepherd's"},
    ),
    "languages-spawn": View("languages-spawn", "Spawn of /bin/true, by language", "posix_spawn", SPAWN),
    "languages-read": View(
        "languages-read",
        "256 MiB of output, by language",
        "posix_spawn",
        {"read": "MiB/s", "cpu": "the host's CPU, ms"},
    ),
    "languages-echo": View("languages-echo", "10 MiB through cat and back, by language", "posix_spawn", {"echo": "ms"}),
    "languages-turn": View(
        "languages-turn", "One byte through cat and back, by language", "posix_spawn", {"turn": "µs"}
    ),
}


def ratio(*what):
    """Like what follows, one of the calculations of Results, to be done later."""
    return lambda r: r.ratio(*what)


def median(*what):
    return lambda r: r.median(*what)


def difference(*what):
    return lambda r: r.difference(*what)


def each(*what):
    return lambda r: r.each(*what)


def quotient(part, metric, base):
    """Of medians: teardown takes turns in itself, and is one block."""

    def calculate(r):
        ours, theirs = r.median(part, "netrunner", metric), r.median(part, base, metric)
        return ours / theirs if ours and theirs else None

    return calculate


def shepherds(r):
    both = [r.median("idle", "netrunner", f"{who}_kib@1") for who in ("shepherd", "guardian")]
    return None if None in both else sum(both)


# What, "<=" or ">=", how much, and how it is calculated.
TARGETS = [
    ("spawn of /bin/true, x posix_spawn", "<=", 1.15, ratio("spawn", "netrunner", "exit", "posix_spawn")),
    ("spawn of a tiny program, x posix_spawn", "<=", 1.6, ratio("spawn-tiny", "netrunner", "exit", "posix_spawn")),
    ("spawn of /bin/true, host of 2 GiB", "<=", 1.2, ratio("spawn-big", "netrunner", "exit", "posix_spawn")),
    (
        "spawn of /bin/true, host of 10,000 descriptors",
        "<=",
        0.6,
        ratio("spawn-fds", "netrunner", "exit", "posix_spawn"),
    ),
    (
        "NR_ASYNC blocks the caller, x posix_spawn",
        "<=",
        0.4,
        ratio("spawn", "netrunner-async", "blocked", "posix_spawn"),
    ),
    ("context switches of the shepherd per spawn", "<=", 4.5, median("spawn", "netrunner", "switches")),
    (
        "spawn beside 1,000 idle programs, x beside 1",
        "<=",
        1.2,
        ratio("idle", "netrunner", "exit@1000", "netrunner", "exit@1"),
    ),
    (
        "spawn beside 5,000 idle programs, x beside 1",
        "<=",
        1.2,
        ratio("idle", "netrunner", "exit@5000", "netrunner", "exit@1"),
    ),
    ("shepherd and guardian with one program, KiB", "<=", 5120, shepherds),
    ("shepherd's memory per idle program, KiB", "<=", 1, each("idle", "netrunner", "shepherd_kib", 5000)),
    ("descriptors per idle program, host", "<=", 4, each("idle", "netrunner", "host_fds", 5000)),
    ("descriptors per idle program, shepherd", "<=", 2, each("idle", "netrunner", "shepherd_fds", 5000)),
    (
        "/bin/true per second, 64 outstanding, x posix_spawn",
        ">=",
        1.0,
        ratio("rate", "netrunner", "rate@64", "posix_spawn"),
    ),
    ("the same with NR_ASYNC", ">=", 1.0, ratio("rate", "netrunner-async", "rate@64", "posix_spawn")),
    (
        "tiny programs per second, 64 outstanding, x posix_spawn",
        ">=",
        1.3,
        ratio("rate-tiny", "netrunner", "rate@64", "posix_spawn"),
    ),
    ("the same with NR_ASYNC", ">=", 1.3, ratio("rate-tiny", "netrunner-async", "rate@64", "posix_spawn")),
    (
        "throughput, 1 MiB pipe, x read(2)",
        ">=",
        0.97,
        ratio("read", "netrunner, 1 MiB pipe", "read", "read(2), 1 MiB pipe"),
    ),
    ("throughput by default, x read(2) of a 64 KiB pipe", ">=", 2.5, ratio("read", "netrunner", "read", "read(2)")),
    ("nr_read of 1 B over read(2), ns", "<=", 60, difference("calls", "netrunner", "read@1", "raw")),
    ("nr_write of 1 B over write(2), ns", "<=", 60, difference("calls", "netrunner", "write@1", "raw")),
    ("round trip by pipes, x raw", "<=", 1.1, ratio("turn", "netrunner", "turn", "posix_spawn")),
    ("round trip by a terminal, x raw", "<=", 1.1, ratio("turn-pty", "netrunner", "turn", "posix_spawn")),
    ("host death with 1,000 programs, x kill loop", "<=", 1.3, quotient("teardown", "death@1000", "kill")),
    ("dlopen, ms", "<=", 1, median("start", "netrunner", "dlopen")),
    ("first spawn, ms", "<=", 6, median("start", "netrunner", "first")),
    ("private memory added to the host, KiB", "<=", 4096, median("start", "netrunner", "kib")),
    ("wake-ups of an idle host per second", "<=", 0.1, median("start-idle", "netrunner", "host_wakeups")),
    (
        "netrunner.asyncio, spawn, x asyncio",
        "<=",
        0.8,
        ratio("languages-spawn", "netrunner.asyncio", "exit", "asyncio"),
    ),
    (
        "netrunner.asyncio, throughput, x asyncio",
        ">=",
        3,
        ratio("languages-read", "netrunner.asyncio", "read", "asyncio"),
    ),
    (
        "Elixir, spawn, x System.cmd",
        "<=",
        1,
        ratio("languages-spawn", "Elixir NetRunner.run", "exit", "Elixir System.cmd"),
    ),
    (
        "Erlang, spawn, x System.cmd",
        "<=",
        1,
        ratio("languages-spawn", "Erlang netrunner:run", "exit", "Elixir System.cmd"),
    ),
    ("Elixir, throughput, x port", ">=", 2, ratio("languages-read", "Elixir NetRunner.stream", "read", "Erlang port")),
    ("Rust, spawn, x C", "<=", 1.05, ratio("languages-spawn", "Rust netrunner", "exit", "netrunner")),
    ("Rust, throughput, x C", ">=", 0.95, ratio("languages-read", "Rust netrunner", "read", "netrunner")),
]


def figure(x):
    if x is None:
        return ""
    if abs(x) >= 100:
        return f"{x:,.0f}"
    return f"{x:.1f}" if abs(x) >= 10 else f"{x:.2f}"


def rows(results, view):
    """The heading and the lines of a table; ratios only where there is a base."""
    values = results.values(view.part)
    metrics = {m: heading for m, heading in view.metrics.items() if any(m in v for v in values.values())}
    compared = [m for m in metrics if m in values.get(view.base, {}) and len(values) > 1]
    heading = [""]
    for metric in metrics:
        heading += [metrics[metric], "quartiles"] + (["ratio"] if metric in compared else [])
    lines = []
    for variant, measured in values.items():
        line = [variant]
        for metric in metrics:
            value = measured.get(metric)
            line.append(figure(value["median"]) if value else "")
            line.append(f"{figure(value['q1'])} to {figure(value['q3'])}" if value and value["samples"] > 1 else "")
            if metric in compared:
                line.append(figure(results.ratio(view.part, variant, metric, view.base)))
        if any(line[1:]):
            lines.append(line)
    return heading, lines


def idle_rows(results):
    numbers = (1, 100, 1000, 5000)
    heading = ["", *(f"{n:,} idle" for n in numbers), "each more"]
    lines = []
    for what, name in (("kib", "private memory, KiB"), ("fds", "descriptors")):
        for variant, who in (
            ("posix_spawn", "host"),
            *(("netrunner", who) for who in ("host", "shepherd", "guardian")),
        ):
            cells = [results.median("idle", variant, f"{who}_{what}@{n}") for n in numbers]
            each = results.each("idle", variant, f"{who}_{what}", 5000)
            if any(cell is not None for cell in cells):
                lines.append([f"{variant}: {who}, {name}", *map(figure, cells), figure(each)])
    return heading, lines


def count_rows():
    """What counts.py expects: system calls of a program's life."""
    expected = json.loads(pathlib.Path(__file__).with_name("expected.json").read_text())["calls"]
    who = ("host", "shepherd", "program")
    lines = []
    for workload, calls in expected.items():
        if workload.startswith(("spawn", "the same")):
            calls = calls["varying"] | calls["steady"]
            of = {w: {call.partition(": ")[2]: n for call, n in calls.items() if call.startswith(w)} for w in who}
            most = sorted(of["host"], key=of["host"].get, reverse=True)[:4]
            lines.append([workload, *(f"{sum(of[w].values()):.0f}" for w in who), ", ".join(most)])
    return ["system calls", "host", "shepherd", "program, before its execve", "most of the host's"], lines


def target_rows(results):
    lines = []
    for what, relation, limit, calculate in TARGETS:
        value = calculate(results)
        if value is None:
            continue
        met = value <= limit if relation == "<=" else value >= limit
        lines.append([what, f"{relation} {limit:g}", figure(value), "met" if met else "missed"])
    return ["", "target", "measured", ""], lines


def as_text(heading, lines):
    if not lines:
        return ""
    widths = [max(len(line[i]) for line in [heading, *lines]) for i in range(len(heading))]
    return "\n".join(
        "  " + "  ".join([line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:]))])
        for line in [heading, *lines]
    )


def as_markdown(heading, lines):
    table = [heading, ["---"] + ["---:"] * (len(heading) - 1), *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in table)


def text(results, part):
    """All tables of a part."""
    texts = [f"{view.title}\n{as_text(*rows(results, view))}" for view in VIEWS.values() if view.part == part]
    if part == "idle":
        texts.append(as_text(*idle_rows(results)))
    return "\n".join(texts)


def targets_text(results):
    return "Targets\n" + as_text(*target_rows(results))


# Plots.

OURS, PEER, BASE = "#2563eb", "#9ca3af", "#4b5563"
STYLE = "font-family='sans-serif' font-size='13'"


def svg(width, height, title, body):
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}'"
        f" width='{width}' height='{height}' {STYLE}>"
        f"<rect width='{width}' height='{height}' fill='white'/>"
        f"<text x='12' y='24' font-size='15' font-weight='bold'>{html.escape(title)}</text>{body}</svg>\n"
    )


def colour(variant, base):
    return OURS if "netrunner" in variant.lower() else BASE if variant == base else PEER


def bars(title, unit, base, values, logarithmic=False):
    """A bar for each variant, with its quartiles: {variant: (median, q1, q3)}."""
    left, width, step = 190, 760, 24
    span = width - left - 110
    most = max(v[2] for v in values.values())
    least = min(v[1] for v in values.values()) / 2 if logarithmic else 0

    def at(x):
        if logarithmic:
            return left + span * math.log(max(x, least) / least) / math.log(most / least)
        return left + span * x / most

    body = []
    for i, (variant, (median, q1, q3)) in enumerate(values.items()):
        y = 40 + i * step
        body.append(f"<text x='{left - 8}' y='{y + 14}' text-anchor='end'>{html.escape(variant)}</text>")
        body.append(
            f"<rect x='{left}' y='{y}' width='{at(median) - left:.1f}' height='18' fill='{colour(variant, base)}'/>"
        )
        body.append(f"<path d='M{at(q1):.1f} {y + 9}H{at(q3):.1f}' stroke='black' stroke-width='2'/>")
        body.append(f"<text x='{at(q3) + 6:.1f}' y='{y + 14}'>{figure(median)} {unit}</text>")
    return svg(width, 52 + len(values) * step, title + (" (logarithmic)" if logarithmic else ""), "".join(body))


def ticks(most):
    """Four to nine round numbers from 0 up, of which the last is at least most."""
    step = 10 ** math.floor(math.log10(most))
    step = next(s for s in (step / 5, step / 2, step, step * 2) if most / s <= 8)
    return [step * k for k in range(math.ceil(most / step) + 1)]


def lines(title, x_unit, y_unit, series):
    """A line for each variant over a logarithmic x: {variant: [(x, y)]}."""
    left, top, width, height = 70, 60, 760, 330
    right, bottom = width - 170, height - 55
    xs = sorted({x for points in series.values() for x, _ in points})
    ys = ticks(max(y for points in series.values() for _, y in points))

    def place(x, y):
        across = math.log(x / xs[0]) / math.log(xs[-1] / xs[0])
        return left + (right - left) * across, bottom - (bottom - top) * y / ys[-1]

    body = [f"<text x='{left - 8}' y='{top - 16}' text-anchor='end'>{y_unit}</text>"]
    for y in ys:
        py = place(xs[0], y)[1]
        body.append(f"<path d='M{left} {py:.1f}H{right}' stroke='#e5e7eb'/>")
        body.append(f"<text x='{left - 8}' y='{py + 4:.1f}' text-anchor='end'>{y:,g}</text>")
    for x in xs:
        body.append(f"<text x='{place(x, 0)[0]:.1f}' y='{bottom + 18}' text-anchor='middle'>{x:,}</text>")
    body.append(f"<text x='{(left + right) / 2}' y='{bottom + 40}' text-anchor='middle'>{x_unit}</text>")
    body.append(f"<path d='M{left} {top}V{bottom}H{right}' stroke='black' fill='none'/>")
    label = math.inf
    for variant, points in sorted(series.items(), key=lambda one: one[1][-1][1]):
        stroke = colour(variant, next(iter(series)))
        dashes = " stroke-dasharray='6 3'" if "-" in variant else ""
        path = "L".join("{:.1f} {:.1f}".format(*place(x, y)) for x, y in points)
        label = min(place(*points[-1])[1] + 4, label - 15)  # none over another
        body.append(f"<path d='M{path}' stroke='{stroke}' stroke-width='2'{dashes} fill='none'/>")
        body.append(f"<text x='{right + 8}' y='{label:.1f}' fill='{stroke}'>{html.escape(variant)}</text>")
    return svg(width, height, title, "".join(body))


# File: (view, metric, unit, logarithmic).
BARS = {
    "spawn": ("spawn", "exit", "µs", False),
    "spawn-big": ("spawn-big", "exit", "µs", True),
    "read": ("read", "read", "MiB/s", False),
    "languages-spawn": ("languages-spawn", "exit", "µs", False),
    "languages-read": ("languages-read", "read", "MiB/s", False),
    "languages-echo": ("languages-echo", "echo", "ms", False),
}
# File: (view, what is before the @, title, unit of x, unit of y).
LINES = {
    "rate": ("rate", "rate", "Spawns of /bin/true per second", "programs outstanding", "1/s"),
    "growth": ("growth", "exit", "Spawn of /bin/true beside idle programs", "idle programs", "µs"),
    "death": ("death", "death", "Death of all programs of a host", "programs", "µs"),
}


def draw(results, directory):
    directory.mkdir(parents=True, exist_ok=True)
    for name, (view_name, metric, unit, logarithmic) in BARS.items():
        view = VIEWS[view_name]
        measured = {v: m[metric] for v, m in results.values(view.part).items() if metric in m}
        if measured:
            spans = {v: (m["median"], m["q1"], m["q3"]) for v, m in measured.items()}
            plot = bars(view.title, unit, view.base, spans, logarithmic)
            (directory / f"{name}.svg").write_text(plot)
    for name, (view, before, title, x_unit, y_unit) in LINES.items():
        series = {}
        for variant, measured in results.values(VIEWS[view].part).items():
            points = [
                (int(m.partition("@")[2]), v["median"]) for m, v in measured.items() if m.startswith(before + "@")
            ]
            if len(points) > 1:
                series[variant] = sorted(points)
        if series:
            (directory / f"{name}.svg").write_text(lines(title, x_unit, y_unit, series))


# The documents.


def machine(results):
    m = results.data["machine"]
    dates = sorted(part["date"] for part in results.data["parts"].values())
    loads = [part["load"] for part in results.data["parts"].values()]
    lines = [
        ("measured", f"{dates[0]} to {dates[-1]} UTC" if dates[0] != dates[-1] else f"{dates[0]} UTC"),
        ("load average before the parts", f"{min(loads)} to {max(loads)}"),
        ("processor", f"{m['cpu']}, {m['cpus']} of them"),
        ("memory", f"{m['memory_mib']:,} MiB, transparent huge pages: {m['huge_pages']}"),
        ("Linux", f"{m['kernel']}, sched_autogroup_enabled: {m.get('autogroup')}"),
        *m["versions"].items(),
    ]
    return as_markdown(["", ""], [[name, text] for name, text in lines])


def fill_in(path, results):
    def block(match):
        name = match[1]
        if name == "machine":
            table = machine(results)
        elif name == "targets":
            table = as_markdown(*target_rows(results))
        elif name == "counts":
            table = as_markdown(*count_rows())
        elif name == "idle":
            table = as_markdown(*idle_rows(results))
        else:
            table = as_markdown(*rows(results, VIEWS[name]))
        return f"<!-- bench:{name} -->\n{table}\n<!-- bench -->"

    before = path.read_text()
    path.write_text(re.sub(r"<!-- bench:([\w-]+) -->\n.*?<!-- bench -->", block, before, flags=re.DOTALL))


def main():
    build = pathlib.Path(os.environ.get("BUILD", "build"))
    build = build if build.is_absolute() else ROOT / build
    DOCS.mkdir(exist_ok=True)
    shutil.copy(build / "bench/results.json", DOCS / "results.json")
    results = Results(json.loads((DOCS / "results.json").read_text()))
    draw(results, DOCS)
    fill_in(ROOT / "docs/performance.md", results)


if __name__ == "__main__":
    main()
