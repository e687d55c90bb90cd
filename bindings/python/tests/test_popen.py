# SPDX-License-Identifier: Apache-2.0
import gc
import io
import os
import pickle
import select
import signal
import subprocess
import threading
import time

import pytest

import netrunner
from netrunner import PIPE, STDOUT, Popen, Reason
from support import alive, python, until


def test_attributes_and_lifecycle():
    with Popen(["sh", "-c", "read x; exit 3"], stdin=PIPE) as program:
        assert program.args == ["sh", "-c", "read x; exit 3"]
        assert alive(program.pid)
        assert program.returncode is None and program.outcome is None and program.poll() is None
        assert (program.stdout, program.stderr) == (None, None)
        program.stdin.write(b"\n")
        program.stdin.close()
        assert program.wait() == 3
        assert program.returncode == 3 and program.poll() == 3
        assert program.outcome == netrunner.Outcome(3, None, Reason.OWN)
    assert program.wait() == 3
    assert repr(program) == "<Popen: returncode: 3 args: ['sh', '-c', 'read x; exit 3']>"


def test_file_objects():
    with Popen("cat", stdin=PIPE, stdout=PIPE) as program:
        assert program.stdin.writable() and not program.stdin.readable()
        assert program.stdout.readable() and not program.stdout.writable()
        assert not program.stdout.isatty()
        program.stdin.write(b"a\nb\nc")
        program.stdin.flush()
        assert select.select([program.stdout.fileno()], [], [], 10)[0]
        assert program.stdout.readline() == b"a\n"
        program.stdin.close()
        assert program.stdout.read() == b"b\nc"
        assert program.stdout.read() == b""
    with pytest.raises(ValueError):
        program.stdout.read()


def test_unbuffered_and_line_buffered():
    with Popen("cat", stdin=PIPE, stdout=PIPE, bufsize=0) as program:
        assert isinstance(program.stdout, io.RawIOBase)
        program.stdin.write(b"x\n")
        assert program.stdout.read(100) == b"x\n"
    with Popen("cat", stdin=PIPE, stdout=PIPE, bufsize=1, text=True, encoding="utf-8") as program:
        program.stdin.write("é\n")
        assert program.stdout.readline() == "é\n"
        assert program.universal_newlines


def test_iteration_over_lines():
    with Popen(["seq", "20000"], stdout=PIPE, text=True) as program:
        assert [int(line) for line in program.stdout] == list(range(1, 20001))


def test_communicate():
    program = Popen(["sh", "-c", "cat; echo err >&2"], stdin=PIPE, stdout=PIPE, stderr=PIPE)
    assert program.communicate(b"in") == (b"in", b"err\n")
    assert program.returncode == 0
    assert program.communicate() == (b"in", b"err\n")
    assert Popen("true").communicate() == (None, None)


def test_communicate_after_reads_and_writes_loses_nothing():
    for text in (False, True):
        program = Popen("cat", stdin=PIPE, stdout=PIPE, text=text, encoding="utf-8" if text else None)
        first, rest = ("1\n2é\n3", "4") if text else (b"1\n2\n3", b"4")
        program.stdin.write(first)
        program.stdin.flush()
        line = program.stdout.readline()
        program.stdin.write(rest)  # buffered
        output, _ = program.communicate(rest)
        assert line + output == first + rest + rest


def test_communicate_can_be_taken_up_after_a_timeout():
    program = Popen("cat; sleep 0.3; echo end", shell=True, stdin=PIPE, stdout=PIPE)
    data = os.urandom(300_000)
    with pytest.raises(subprocess.TimeoutExpired) as info:
        program.communicate(data, timeout=0.1)
    assert data.startswith(info.value.output)
    with pytest.raises(ValueError):
        program.communicate(b"more")
    assert program.communicate() == (data + b"end\n", None)


def test_input_without_a_pipe_is_an_error():
    with Popen("true") as program:
        with pytest.raises(ValueError):
            program.communicate(b"x")


def test_wait_timeout():
    with Popen(["sleep", "1000"]) as program:
        with pytest.raises(subprocess.TimeoutExpired) as info:
            program.wait(timeout=0.05)
        assert (info.value.cmd, info.value.timeout) == (["sleep", "1000"], 0.05)
        assert program.poll() is None
        program.kill()
        assert program.wait(timeout=30) == -signal.SIGKILL


@pytest.mark.parametrize(
    ("method", "number"), [("terminate", signal.SIGTERM), ("kill", signal.SIGKILL), ("stop", signal.SIGTERM)]
)
def test_signals(method, number):
    with Popen(["sleep", "1000"]) as program:
        getattr(program, method)()
        assert program.wait() == -number
        assert program.outcome.reason is Reason.KILLED
        getattr(program, method)()  # nothing, as with subprocess


def test_send_signal():
    with Popen("trap 'echo got; exit 5' USR1; echo ready; sleep 1000 & wait", shell=True, stdout=PIPE) as program:
        assert program.stdout.readline() == b"ready\n"
        program.send_signal(signal.SIGUSR1)
        assert program.stdout.readline() == b"got\n"
        assert program.wait() == 5
        program.send_signal(signal.SIGUSR1)
    with Popen(["sleep", "1000"]) as program:
        with pytest.raises(OSError, match="nvalid"):
            program.send_signal(12345)
        program.kill()


def test_stop_kills_what_ignores_it():
    code = "trap '' TERM; echo ready; while :; do sleep 1000; done"
    with Popen(code, shell=True, stdout=PIPE, kill_timeout=0.2) as program:
        assert program.stdout.readline() == b"ready\n"
        program.stop()
        assert program.wait() == -signal.SIGKILL


def test_stop_without_grace():
    with Popen("trap 'exit 1' TERM; echo ready; sleep 1000 & wait", shell=True, stdout=PIPE, kill_timeout=0) as program:
        program.stdout.readline()
        program.stop()
        assert program.wait() == -signal.SIGKILL


def test_timeout_of_the_shepherd():
    with Popen(["sleep", "1000"], timeout=0.1) as program:
        assert program.wait() == -signal.SIGTERM
        assert program.outcome.reason is Reason.TIMEOUT


def test_leaving_the_block_by_an_exception_stops_the_tree():
    with pytest.raises(ZeroDivisionError):
        with Popen("sleep 1000 & echo $!; wait", shell=True, stdout=PIPE) as program:
            pid = int(program.stdout.readline())
            raise ZeroDivisionError
    assert program.returncode == -signal.SIGTERM
    assert not alive(pid)


def test_leaving_the_block_waits():
    with Popen("cat; exit 7", shell=True, stdin=PIPE) as program:
        pass
    assert program.returncode == 7


def test_broken_pipe():
    with Popen(["true"], stdin=PIPE, bufsize=0) as program:
        program.wait()
        with pytest.raises(BrokenPipeError):
            program.stdin.write(b"x")


def test_stats():
    with Popen("cat; cat", shell=True, stdin=PIPE, stdout=PIPE) as program:
        program.communicate(b"x" * 1000)
        stats = program.stats()
    assert (stats.stdin_bytes, stats.stdout_bytes, stats.stderr_bytes) == (1000, 1000, 0)
    assert stats.writes >= 1 and stats.reads >= 1
    assert 0 < stats.wall_time < 60 and stats.memory_peak > 0 and stats.minor_faults > 0
    assert stats.memory is None and stats.processes is None
    assert program.stats() == stats


def test_terminal():
    with Popen("stty size; read x; stty size; read x", shell=True, pty=(10, 20), echo=False) as program:
        assert program.stdout.isatty()
        assert program.stdout.readline() == b"10 20\r\n"
        program.resize(33, 44)
        program.stdin.write(b"\n")
        program.stdin.flush()
        assert program.stdout.readline() == b"33 44\r\n"
        with pytest.raises(ValueError):
            program.resize(0, 5)
        program.stdin.close()
        assert program.wait() == 1
        with pytest.raises(ProcessLookupError):
            program.stdout.close()
            program.resize(1, 1)
    with Popen("true") as program:
        with pytest.raises(OSError):
            program.resize(1, 1)


def test_terminal_in_raw_mode_can_be_closed():
    code = "stty raw -echo; printf r; dd bs=1 count=1 2>/dev/null; sleep 1000"
    with Popen(code, shell=True, pty=True) as program:
        assert program.stdout.read(1) == b"r"
        program.stdin.close()  # there is no end of file: no effect
        program.stop()
        assert program.wait() == -signal.SIGTERM


def test_cgroup_calls_without_a_cgroup():
    with Popen("cat", stdin=PIPE) as program:
        with pytest.raises(OSError):
            program.cgroup_get("memory.current")
        with pytest.raises(OSError):
            program.cgroup_set("memory.max", 2**20)


def test_errors_are_os_errors_with_the_why():
    with pytest.raises(FileNotFoundError) as info:
        Popen(["no-such-program"])
    error = info.value
    assert isinstance(error, netrunner.Error)
    assert error.errno == 2 and error.filename == "no-such-program"
    assert error.why == "execve no-such-program (looked up in PATH): no such file or directory"
    assert error.why in str(error)
    with pytest.raises(PermissionError) as info:
        Popen(["/etc/passwd"])
    assert info.value.why == "execve /etc/passwd: permission denied"
    with pytest.raises(FileNotFoundError) as info:
        Popen(["true"], cwd="/no/such/directory")
    assert info.value.filename == "/no/such/directory"
    with pytest.raises(OSError, match="no-such-shepherd"):
        Popen(["true"], shepherd="/no-such-shepherd")


def test_errors_can_be_pickled():
    with pytest.raises(FileNotFoundError) as info:
        Popen(["no-such-program"])
    copy = pickle.loads(pickle.dumps(info.value))
    assert type(copy) is type(info.value) and copy.args == info.value.args and copy.why == info.value.why
    limit = netrunner.OutputLimitExceeded(["x"], 5, b"out", None)
    copy = pickle.loads(pickle.dumps(limit))
    assert (copy.cmd, copy.limit, copy.output, copy.stderr) == (["x"], 5, b"out", None)


def test_not_executable_format(tmp_path):
    file = tmp_path / "text"
    file.write_text("no program")
    file.chmod(0o755)
    with pytest.raises(OSError) as info:
        Popen([file])
    assert info.value.errno == 8


def test_deleted_while_it_runs():
    # There is nobody left who could wait for a grace.
    code = "trap '' TERM; sleep 1000 & echo $!; while :; do sleep 1000; done"
    program = Popen(code, shell=True, stdout=PIPE, kill_timeout=1000)
    pids = [program.pid, int(program.stdout.readline())]
    with pytest.warns(ResourceWarning, match=f"subprocess {program.pid} is still running"):
        del program
        gc.collect()
    until(lambda: not any(map(alive, pids)))


def test_deleted_in_a_cycle():
    program = Popen(["sleep", "1000"])
    program.myself = program
    pid = program.pid
    with pytest.warns(ResourceWarning):
        del program
        gc.collect()
    until(lambda: not alive(pid))


def test_streams_live_longer_than_an_ended_program():
    program = Popen(["echo", "x"], stdout=PIPE)
    program.wait()
    stdout = program.stdout
    del program
    gc.collect()
    assert stdout.read() == b"x\n"
    stdout.close()


def test_many_threads():
    results, errors = [], []

    def work(number):
        try:
            for _ in range(5):
                program = Popen("cat; exit 3", shell=True, stdin=PIPE, stdout=PIPE)
                results.append((program.communicate(str(number).encode())[0], str(number).encode(), program.returncode))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(results) == 80 and all(got == sent and code == 3 for got, sent, code in results)


def test_several_threads_wait_for_one():
    program = Popen("read x; exit 9", shell=True, stdin=PIPE)
    codes = []
    threads = [threading.Thread(target=lambda: codes.append(program.wait())) for _ in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(0.02)
    program.stdin.close()
    for thread in threads:
        thread.join()
    assert codes == [9] * 8


def test_killed_by_another_thread_while_it_is_read():
    program = Popen(["sleep", "1000"], stdout=PIPE)
    threading.Timer(0.05, program.kill).start()
    assert program.stdout.read() == b""
    assert program.wait() == -signal.SIGKILL
    program.stdout.close()


def test_signals_of_the_host_interrupt_waits():
    seen = []
    old = signal.signal(signal.SIGALRM, lambda *_: seen.append(1))
    try:
        program = Popen("read x", shell=True, stdin=PIPE)
        threading.Timer(0.3, program.stdin.close).start()
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        assert program.wait() == 1
        assert seen
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


def test_sigchld_is_not_used():
    old = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert netrunner.run("exit 7", shell=True).returncode == 7
    finally:
        signal.signal(signal.SIGCHLD, old)


def test_stderr_to_stdout_and_shared_files(tmp_path):
    with (tmp_path / "log").open("w+b") as log:
        with Popen("echo a; echo b >&2", shell=True, stdout=log, stderr=STDOUT):
            pass
        log.seek(0)
        assert log.read() == b"a\nb\n"


def test_own_shepherd():
    with Popen(python("print(1)"), stdout=PIPE, own_shepherd=True) as program:
        assert program.communicate() == (b"1\n", None)


def test_pid_namespace():
    try:
        done = netrunner.run("readlink /proc/self/ns/pid", shell=True, stdout=PIPE, pid_namespace=True)
    except OSError as error:
        pytest.skip(f"no pid namespaces here: {error.why}")
    assert done.returncode == 0
    assert done.stdout.decode().strip() != os.readlink("/proc/self/ns/pid")


def test_the_shepherd_is_killed():
    from support import stat

    with Popen("echo x; sleep 1000", shell=True, stdout=PIPE, own_shepherd=True) as program:
        program.stdout.readline()
        shepherd = int(stat(program.pid)[1])
        os.kill(shepherd, signal.SIGKILL)
        with pytest.raises(netrunner.ShepherdDied) as info:
            program.wait()
        assert info.value.errno == 130
        assert program.outcome.reason is Reason.LOST and program.returncode == -signal.SIGKILL
        until(lambda: not alive(program.pid))
        program.stdout.close()
        with pytest.raises(netrunner.ShepherdDied):
            program.communicate()
