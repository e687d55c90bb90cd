# SPDX-License-Identifier: Apache-2.0
"""However the host ends, nothing is left. And what a fork of it may do."""

import os
import signal
import subprocess
import sys

import pytest

from support import ENVIRONMENT, alive, host, host_output, until

START = """
import ctypes, os, signal, sys, threading, time
import netrunner
program = netrunner.Popen("sleep 1000 & echo $!; setsid sleep 1000 & echo $!; wait", shell=True, stdout=netrunner.PIPE)
print(program.pid, program.stdout.readline().decode().strip(), program.stdout.readline().decode().strip(), flush=True)
"""

ENDS = {
    "exit": "sys.exit()",
    "end of the script": "",
    "exception": "sys.stderr.close(); 1 / 0",
    "os._exit": "os._exit(0)",
    "os.abort": "os.abort()",
    "SIGKILL": "os.kill(os.getpid(), signal.SIGKILL)",
    "crash": "ctypes.string_at(0)",
    "exit from a thread": "threading.Thread(target=os._exit, args=(0,)).start(); time.sleep(1000)",
    "exec": "os.execv('/bin/true', ['true'])",
    "a fork lives on": "os.fork() or time.sleep(2); os._exit(0)",
    "reference cycle": "program.myself = program",
}


@pytest.mark.parametrize("end", ENDS)
def test_nothing_is_left(end):
    process = host(START + ENDS[end], stderr=-3)
    pids = [int(pid) for pid in process.stdout.readline().split()]
    assert len(pids) == 3
    process.wait(60)
    process.stdout.close()
    until(lambda: not any(map(alive, pids)))


def test_nothing_is_left_by_asyncio():
    process = host(
        """
        import asyncio, netrunner.asyncio, os
        async def main():
            programs = [await netrunner.asyncio.create_subprocess_exec("sleep", "1000") for _ in range(5)]
            print(*(program.pid for program in programs), flush=True)
            os._exit(1)
        asyncio.run(main())
        """
    )
    pids = [int(pid) for pid in process.stdout.readline().split()]
    assert len(pids) == 5
    process.wait(60)
    process.stdout.close()
    until(lambda: not any(map(alive, pids)))


def test_a_fork_can_not_use_it_and_does_no_harm():
    output = host_output(
        """
        import gc, os, signal, sys, warnings, netrunner
        warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads
        program = netrunner.Popen("cat", stdin=netrunner.PIPE, stdout=netrunner.PIPE, bufsize=0)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                for attempt in (lambda: netrunner.run("true"), program.poll, program.wait, program.stats,
                                lambda: program.stdin.write(b"x"), program.kill):
                    try:
                        attempt()
                    except ChildProcessError as error:
                        assert "fork" in error.why, error
                    else:
                        raise AssertionError(attempt)
                del attempt, program
                gc.collect()
                code = 0
            finally:
                sys.stderr.flush()
                os._exit(code)
        print(os.waitpid(pid, 0)[1])
        program.stdin.write(b"still there")
        print(program.stdout.read(100))
        program.stdin.close()
        print(program.wait(), netrunner.run("exit 3", shell=True).returncode)
        program.stdout.close()
        """
    )
    assert output.splitlines() == ["0", "b'still there'", "0 3"]


def test_fork_before_the_first_program():
    output = host_output(
        """
        import os, netrunner
        pid = os.fork()
        # One write(2): the other process prints, too.
        os.write(1, b"%d\\n" % netrunner.run("exit 5", shell=True).returncode)
        if pid:
            os.waitpid(pid, 0)
        else:
            os._exit(0)
        """
    )
    assert output.split() == ["5", "5"]


FORKED = """
import multiprocessing, sys, warnings
import netrunner
warnings.simplefilter("ignore", DeprecationWarning) # forking with threads

def work(number):
    try:
        return netrunner.run(f"exit {number}", shell=True).returncode
    except ChildProcessError as error:
        return "fork" in error.why and error.errno

if __name__ == "__main__":
    if sys.argv[2] == "used":
        netrunner.run("true")
    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
        print(pool.map(work, [3, 4]))
        pool.close()
        pool.join()
"""


@pytest.mark.parametrize(
    ("method", "used", "expected"),
    [
        ("fork", "unused", "[3, 4]"),
        ("fork", "used", "[10, 10]"),
        ("spawn", "used", "[3, 4]"),
        ("forkserver", "used", "[3, 4]"),
    ],
)
def test_multiprocessing(method, used, expected, tmp_path):
    # The children of spawn have to find the function, so it has to be in a file.
    (tmp_path / "forked.py").write_text(FORKED)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "forked.py"), method, used],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    assert done.stdout.strip() == expected and done.returncode == 0


def test_sigint_reaches_no_program():
    # Programs have process groups of their own: Ctrl-C is for the host to deal with.
    process = host(
        """
        import netrunner, os, signal
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        program = netrunner.Popen("read x; exit 6", shell=True, stdin=netrunner.PIPE)
        print(flush=True)
        signal.sigwait([signal.SIGINT])
        program.stdin.close()
        print(program.wait())
        """,
        start_new_session=True,
    )
    assert process.stdout.readline() == "\n"
    os.killpg(process.pid, signal.SIGINT)
    assert process.stdout.read() == "6\n"
    process.wait()
    process.stdout.close()


def test_loading_changes_nothing():
    output = host_output(
        """
        import os, signal, threading
        def state():
            with open("/proc/self/status") as file:
                lines = [line for line in file if line.startswith(("SigBlk", "SigIgn", "SigCgt", "Threads"))]
            return lines, sorted(os.listdir("/proc/self/fd"))
        import ctypes, subprocess
        before = state()
        import netrunner
        assert before == state(), (before, state())
        print(True)
        """
    )
    assert output == "True\n"
