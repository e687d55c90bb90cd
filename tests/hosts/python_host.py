# SPDX-License-Identifier: Apache-2.0
"""Hosts in Python, one by the name of each function: python_host.py NAME"""

import asyncio
import gc
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings

import netrunner
import netrunner.asyncio
from netrunner import PIPE

warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads

PATIENCE = 60
TREE = "setsid sleep 1000 & sleep 1000 & echo ready; wait"


def until(condition, what):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


class Handlers:
    """Counts signals, by handlers of signal.signal()."""

    SIGNALS = (signal.SIGUSR1, signal.SIGCHLD, signal.SIGALRM, signal.SIGPROF)

    def __init__(self):
        self.seen = dict.fromkeys(self.SIGNALS, 0)
        for number in self.SIGNALS:
            signal.signal(number, self.count)

    def count(self, number, frame):
        self.seen[number] += 1

    def check(self):
        """All of them work."""
        for number in self.SIGNALS:
            before = self.seen[number]
            os.kill(os.getpid(), number)
            until(lambda: self.seen[number] > before, number)


def status(field, thread=os.getpid()):
    with open(f"/proc/self/task/{thread}/status") as file:
        return int(next(line for line in file if line.startswith(field)).split()[1], 16)


def go_threads_are_deaf():
    """Those that run none of Python's code have all asynchronous signals blocked."""
    asynchronous = 0
    for number in (signal.SIGUSR1, signal.SIGCHLD, signal.SIGALRM, signal.SIGPROF, signal.SIGINT, signal.SIGTERM):
        asynchronous |= 1 << number - 1
    own = {thread.native_id for thread in threading.enumerate()}
    masks = []
    for thread in os.listdir("/proc/self/task"):
        if int(thread) not in own:
            try:
                masks.append(status("SigBlk", thread))
            except OSError:  # it has ended
                continue
    return masks and all(mask & asynchronous == asynchronous for mask in masks)


def in_threads(count, work):
    """Runs work(number) in so many threads, and raises what one of them raises."""
    errors = []

    def guarded(number):
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    return threads, errors


def join(threads, errors):
    """The main thread has to come to Python's code, where handlers run."""
    for thread in threads:
        while thread.is_alive():
            thread.join(0.05)
    if errors:
        raise errors[0]


def storm():
    """Threads that run programs, under a storm of signals, while garbage is collected."""
    handlers = Handlers()
    over = threading.Event()

    def run_programs(number):
        for i in range(60):
            text = f"{number} {i} " * 1000
            done = netrunner.run("cat", input=text, capture_output=True, text=True)
            assert done.stdout == text and done.returncode == 0
            assert netrunner.run(f"exit {i}", shell=True).returncode == i
            if i % 10 == 0:
                gc.collect()

    def send_signals(number):
        while not over.is_set():
            for _ in range(100):
                os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(0.001)

    def run_children(number):  # of Python's own, which send SIGCHLD
        while not over.is_set():
            assert subprocess.run(["sh", "-c", "exit 3"]).returncode == 3

    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    signal.setitimer(signal.ITIMER_PROF, 0.001, 0.001)
    noise = in_threads(1, send_signals), in_threads(1, run_children)
    try:
        join(*in_threads(4, run_programs))
    finally:
        over.set()
        for others in noise:
            join(*others)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
    assert all(handlers.seen.values()), handlers.seen
    until(go_threads_are_deaf, "a thread of Go's takes signals")  # Python's own may still be about to end
    handlers.check()


def loop():
    """asyncio: many programs, its own children, its own signal handlers, and threads with loops."""

    async def programs(rounds):
        async def one(number):
            for _ in range(rounds):
                text = os.urandom(200_000)
                program = await netrunner.asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
                output, _ = await program.communicate(text)
                assert output == text and program.returncode == 0

        await asyncio.gather(*map(one, range(16)))

    async def main():
        count = 0

        def seen():
            nonlocal count
            count += 1

        running = asyncio.get_running_loop()
        running.add_signal_handler(signal.SIGUSR1, seen)
        work = asyncio.ensure_future(programs(6))
        while not work.done():
            os.kill(os.getpid(), signal.SIGUSR1)
            child = await asyncio.create_subprocess_exec("sh", "-c", "exit 5")
            assert await child.wait() == 5
        await work
        before = count
        assert before > 0
        os.kill(os.getpid(), signal.SIGUSR1)
        while count == before:
            await asyncio.sleep(0.005)
        # The loop's end brings back the default action, so none may be on its way.
        while status("ShdPnd") & 1 << signal.SIGUSR1 - 1:
            await asyncio.sleep(0.005)

    others = in_threads(2, lambda number: asyncio.run(programs(2)))
    asyncio.run(asyncio.wait_for(main(), PATIENCE))
    join(*others)


def pool_work(number):
    """In a child of multiprocessing: what it may do is told by its parent."""
    try:
        return netrunner.run(f"exit {number}", shell=True).returncode
    except ChildProcessError:
        return "forked"


def fork():
    """multiprocessing by fork, before the first program and then while others run."""
    context = multiprocessing.get_context("fork")
    with context.Pool(2) as pool:
        assert pool.map(pool_work, range(20)) == list(range(20))
        pool.close()
        pool.join()

    over = threading.Event()

    def run_programs(number):
        while not over.is_set():
            done = netrunner.run("cat", input=b"x" * 100_000, capture_output=True)
            assert done.stdout == b"x" * 100_000

    threads = in_threads(2, run_programs)
    try:
        until(lambda: go_threads_exist(), "the runtime has started")
        with netrunner.Popen("cat", stdin=PIPE, stdout=PIPE) as program:
            for _ in range(25):
                # Forked and ended at any moment of those threads.
                child = os.fork()
                if child == 0:
                    try:
                        os._exit(0 if pool_work(1) == "forked" else 1)
                    finally:
                        os._exit(2)
                _, status = os.waitpid(child, 0)
                assert status == 0, status
            # A fork that lives does not keep the program from the end of its input.
            child = os.fork()
            if child == 0:
                signal.pause()
                os._exit(0)
            try:
                program.stdin.write(b"still there")
                program.stdin.close()
                assert program.stdout.read() == b"still there"
            finally:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
        with context.Pool(2) as pool:
            assert pool.map(pool_work, range(20)) == ["forked"] * 20
            pool.close()
            pool.join()
    finally:
        over.set()
        join(*threads)


def go_threads_exist():
    return len(os.listdir("/proc/self/task")) > threading.active_count() + 2


def prefork():
    """
    A server whose workers are forked before the first program. One of them is
    killed while it has a program: that dies with it, and the others work on.
    """
    server = socket.socket(socket.AF_UNIX)
    server.bind("\0netrunner-test-%d" % os.getpid())
    server.listen(64)

    def serve():
        while True:
            with server.accept()[0] as connection, connection.makefile("rw") as stream:
                command = stream.readline()
                if command == "hang\n":
                    with netrunner.Popen(TREE, shell=True, stdout=PIPE, text=True) as program:
                        program.stdout.readline()
                        stream.write(f"{os.getpid()} {program.pid}\n")
                        stream.flush()
                        signal.pause()
                stream.write(netrunner.run(command, shell=True, capture_output=True, text=True).stdout)

    def start_worker():
        worker = os.fork()
        if worker == 0:
            try:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                serve()
            finally:
                os._exit(1)
        workers.add(worker)

    def ask(command):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(server.getsockname())
            with connection.makefile("rw") as stream:
                stream.write(command + "\n")
                stream.flush()
                return stream.readline() if command == "hang" else stream.read()

    workers = set()
    for _ in range(3):
        start_worker()
    for round in range(4):
        worker, program = map(int, ask("hang").split())
        assert ask("echo hello") == "hello\n"
        os.kill(worker, signal.SIGKILL)
        assert os.waitpid(worker, 0) == (worker, signal.SIGKILL)
        workers.remove(worker)
        start_worker()
        until(lambda: not os.path.exists(f"/proc/{program}"), "the program of a killed worker is dead")
        for number in range(15):
            assert ask(f"echo {number}") == f"{number}\n"
    # The master has started nothing, and may still begin to.
    assert netrunner.run("exit 7", shell=True).returncode == 7
    for worker in workers:
        os.kill(worker, signal.SIGTERM)
        assert os.waitpid(worker, 0) == (worker, signal.SIGTERM)


def killed():
    """To be killed while it starts and ends programs, in threads and under signals."""
    Handlers()
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    trees = [netrunner.Popen(TREE, shell=True, stdout=PIPE) for _ in range(5)]
    for tree in trees:
        tree.stdout.readline()

    def run_programs(number):
        while True:
            netrunner.run("sleep 1000 & setsid sleep 1000 & exit 0", shell=True)

    in_threads(2, run_programs)
    print("ready", flush=True)
    while True:
        time.sleep(1)


if __name__ == "__main__":
    globals()[sys.argv[1]]()
