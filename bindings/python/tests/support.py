# SPDX-License-Identifier: Apache-2.0
import asyncio
import os
import subprocess
import sys
import textwrap
import time

PATIENCE = 20  # seconds until what has to happen has gone wrong


def until(condition, patience=PATIENCE, what=None):
    """Waits for a condition."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(what() if callable(what) else what or "it did not happen")
        time.sleep(0.005)


async def auntil(condition, patience=PATIENCE):
    """Waits for a condition, and lets the loop run."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.005)


def run(main, loop_factory=asyncio.new_event_loop):
    """asyncio.run() in debug mode, with any loop, and a deadline. Tasks must not be left."""
    loop = loop_factory()
    loop.set_debug(True)
    loop.slow_callback_duration = 10
    unhandled = []
    loop.set_exception_handler(lambda loop, context: unhandled.append(context))
    try:
        result = loop.run_until_complete(asyncio.wait_for(main, 4 * PATIENCE))
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
    assert not left, left
    assert not unhandled, unhandled
    return result


def descriptors():
    """Open descriptors, and what they are."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # the one that listed them
            continue
    return found


def stat(pid):
    """Fields of /proc/PID/stat from the third on, or None."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return None


def alive(pid):
    """Whether there is such a process, and it is no zombie."""
    fields = stat(pid)
    return fields is not None and fields[0] not in "ZX"


def shepherds(host=None):
    """Shepherds and guardians of a host, which is an ancestor of theirs by birth only: by their socket."""
    mine = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/comm") as file:
                    if file.read().startswith("netrunner-sheph"):
                        mine.append(int(name))
            except OSError:
                continue
    return mine


def _sockets(pid):
    found = set()
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            target = os.readlink(f"/proc/{pid}/fd/{name}")
            if target.startswith("socket:"):
                found.add(target)
    except OSError:
        pass
    return found


def children_of_shepherd():
    """Programs that this process's shepherds have, and what these have."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = stat(name)
            if fields is not None:
                parents[int(name)] = int(fields[1])
    known = set(shepherds())
    mine = {pid for pid in known if watches(pid, os.getpid())}
    # The guardian is the parent of the shepherd.
    mine |= {parents[pid] for pid in mine if parents.get(pid) in known}
    mine |= {pid for pid in known if parents.get(pid) in mine}
    return sorted(pid for pid, parent in parents.items() if parent in mine and pid not in known and alive(pid))


def watches(shepherd, host):
    """Whether a shepherd is that of a host: it has a pidfd of it."""
    try:
        for name in os.listdir(f"/proc/{shepherd}/fdinfo"):
            with open(f"/proc/{shepherd}/fdinfo/{name}") as file:
                for line in file:
                    if line.startswith("Pid:") and int(line.split()[1]) == host:
                        return True
    except OSError:
        pass
    return False


ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}


def host(code, *args, **options):
    """Starts a Python that is a host of its own, with its stdout as a pipe."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, args)],
        stdout=subprocess.PIPE,
        env=ENVIRONMENT,
        text=True,
        **options,
    )


def host_output(code, *args, **options):
    """Runs such a Python to its end; returns its output."""
    process = host(code, *args, stderr=subprocess.PIPE, **options)
    try:
        output, errors = process.communicate(timeout=2 * PATIENCE)
    except BaseException:
        process.kill()
        process.communicate()
        raise
    assert process.returncode == 0, errors
    assert errors == "", errors
    return output


def python(code, *args):
    """Command to run some lines of Python, which don't see this package."""
    return [sys.executable, "-I", "-c", textwrap.dedent(code), *map(str, args)]
