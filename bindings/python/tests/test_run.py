# SPDX-License-Identifier: Apache-2.0
import os
import resource
import signal
import stat
import subprocess
import sys
import time

import pytest

import netrunner
from netrunner import DEVNULL, PIPE, STDOUT, Reason
from support import alive, python, until


def test_returns_what_subprocess_returns():
    done = netrunner.run(["sh", "-c", "echo out; echo err >&2; exit 3"], capture_output=True)
    assert isinstance(done, subprocess.CompletedProcess)
    assert (done.args, done.returncode) == (["sh", "-c", "echo out; echo err >&2; exit 3"], 3)
    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")
    assert done.outcome == netrunner.Outcome(3, None, Reason.OWN)
    assert done.stats.stdout_bytes == 4 and done.stats.stderr_bytes == 4
    assert done.stats.wall_time > 0


def test_arguments_are_not_for_a_shell():
    args = ["printf", "%s|", "a b", "$HOME", "*", "", "é\n"]
    assert netrunner.run(args, stdout=PIPE).stdout == "a b|$HOME|*||é\n|".encode()
    assert netrunner.run("echo $((1+2))", shell=True, stdout=PIPE).stdout == b"3\n"
    assert netrunner.run(["echo $0 $1", "x", "y"], shell=True, stdout=PIPE).stdout == b"x y\n"
    assert netrunner.run("true").returncode == 0


def test_arguments_may_be_bytes_and_paths(tmp_path):
    script = tmp_path / "script"
    script.write_text('#!/bin/sh\necho "$1"\n')
    script.chmod(0o755)
    assert netrunner.run([script, b"\xff"], stdout=PIPE).stdout == b"\xff\n"
    assert netrunner.run(script, stdout=PIPE).stdout == b"\n"


def test_input_and_output_of_any_size_do_not_deadlock():
    data = os.urandom(1 << 20) * 10
    assert netrunner.run("cat", input=data, capture_output=True).stdout == data


def test_input_that_is_not_read_is_no_error():
    assert netrunner.run("true", input=b"x" * (1 << 20)).returncode == 0


def test_text():
    done = netrunner.run("cat", input="é\r\nx\r", text=True, encoding="utf-8", capture_output=True)
    assert done.stdout == "é\nx\n" and done.stderr == ""
    assert netrunner.run("cat", input="é", encoding="latin-1", stdout=PIPE).stdout == "é"
    done = netrunner.run(["printf", r"\377"], errors="replace", encoding="utf-8", stdout=PIPE)
    assert done.stdout == "\ufffd"
    with pytest.raises(UnicodeDecodeError):
        netrunner.run(["printf", r"\377"], encoding="utf-8", stdout=PIPE)
    with pytest.raises(TypeError):
        netrunner.run("cat", input="text", stdout=PIPE)
    with pytest.raises(TypeError):
        netrunner.run("cat", input=b"bytes", text=True, stdout=PIPE)


def test_check():
    with pytest.raises(subprocess.CalledProcessError) as info:
        netrunner.run(["sh", "-c", "echo out; exit 4"], check=True, stdout=PIPE)
    assert (info.value.returncode, info.value.output) == (4, b"out\n")
    assert netrunner.run("true", check=True).returncode == 0


def test_a_signal_is_a_negative_returncode():
    done = netrunner.run(["sh", "-c", "kill -USR1 $$"])
    assert done.returncode == -signal.SIGUSR1
    assert done.outcome == netrunner.Outcome(None, signal.SIGUSR1, Reason.OWN)


def test_timeout_has_the_output_so_far_and_leaves_nothing():
    started = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired) as info:
        netrunner.run("echo $$; sleep 1000 & echo $!; sleep 1000", shell=True, capture_output=True, timeout=0.5)
    assert time.monotonic() - started < 20
    assert info.value.timeout == 0.5
    pids = [int(line) for line in info.value.output.split()]
    assert len(pids) == 2 and not any(map(alive, pids))


def test_timeout_of_one_that_ignores_sigterm():
    code = "trap '' TERM; echo $$; (trap '' TERM; sleep 1000) & echo $!; while :; do sleep 1000; done"
    with pytest.raises(subprocess.TimeoutExpired) as info:
        netrunner.run(code, shell=True, stdout=PIPE, timeout=0.3, kill_timeout=0.2)
    assert not any(alive(int(pid)) for pid in info.value.stdout.split())


def test_a_timeout_of_zero_is_over_at_once():
    with pytest.raises(subprocess.TimeoutExpired):
        netrunner.run(["sleep", "1000"], timeout=0)


def test_max_output():
    assert netrunner.run(["printf", "12345"], stdout=PIPE, max_output=5).stdout == b"12345"
    with pytest.raises(netrunner.OutputLimitExceeded) as info:
        netrunner.run(["printf", "123456"], capture_output=True, max_output=5)
    assert (info.value.cmd, info.value.limit) == (["printf", "123456"], 5)
    assert (info.value.output, info.value.stderr) == (b"12345", b"")
    assert isinstance(info.value, subprocess.SubprocessError)
    with pytest.raises(netrunner.OutputLimitExceeded) as info:
        netrunner.run("yes; echo never", shell=True, stdout=PIPE, max_output=100_000)
    assert len(info.value.stdout) == 100_000


def test_what_a_program_leaves_behind_ends_with_it():
    done = netrunner.run("sleep 1000 & echo $!; setsid sleep 1000 & echo $!", shell=True, stdout=PIPE)
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 2 and not any(map(alive, pids))


def test_output_held_open_by_a_descendant_does_not_hang():
    # The background job has the pipe; with subprocess.run this takes 1000 seconds.
    assert netrunner.run("echo x; sleep 1000 &", shell=True, stdout=PIPE).stdout == b"x\n"


def test_output_held_open_by_somebody_else_does_not_hang(tmp_path):
    # A process outside of the tree has the pipe, by way of a fifo's worth of cunning: /proc.
    holder = []

    def hold(pid):
        holder.append(os.open(f"/proc/{pid}/fd/1", os.O_WRONLY))

    program = netrunner.Popen("echo x; read line; echo y", shell=True, stdin=PIPE, stdout=PIPE)
    hold(program.pid)
    try:
        assert program.communicate(b"\n") == (b"x\ny\n", None)
    finally:
        os.close(holder[0])


def test_streams():
    assert netrunner.run("echo x >&2", shell=True, stdout=PIPE, stderr=STDOUT).stdout == b"x\n"
    done = netrunner.run("echo x; echo y >&2", shell=True, stdout=DEVNULL, stderr=PIPE)
    assert (done.stdout, done.stderr) == (None, b"y\n")
    assert netrunner.run("cat", stdin=DEVNULL, stdout=PIPE).stdout == b""


def test_streams_that_are_files(tmp_path):
    path = tmp_path / "file"
    with path.open("wb") as file:
        netrunner.run(["echo", "hello"], stdout=file)
    with path.open("rb") as file:
        assert netrunner.run("cat", stdin=file, stdout=PIPE).stdout == b"hello\n"
    read, write = os.pipe()
    with os.fdopen(read, "rb") as file:
        netrunner.run(["echo", "x"], stdout=write)
        os.close(write)
        assert file.read() == b"x\n"


def test_env_and_cwd(tmp_path):
    done = netrunner.run("echo $A; echo ${HOME-none}; pwd", shell=True, env={"A": "1"}, cwd=tmp_path, stdout=PIPE)
    assert done.stdout.split() == [b"1", b"none", os.fsencode(tmp_path)]
    assert netrunner.run(["/usr/bin/env"], env={}, stdout=PIPE).stdout == b""
    os.environ["NETRUNNER_TEST"] = "here"
    try:
        assert netrunner.run("echo $NETRUNNER_TEST", shell=True, stdout=PIPE).stdout == b"here\n"
    finally:
        del os.environ["NETRUNNER_TEST"]


def test_path_is_that_of_env(tmp_path):
    script = tmp_path / "only-here"
    script.write_text("#!/bin/sh\necho found\n")
    script.chmod(0o755)
    assert netrunner.run("only-here", env={"PATH": str(tmp_path)}, stdout=PIPE).stdout == b"found\n"
    with pytest.raises(FileNotFoundError):
        netrunner.run("only-here")


def test_executable():
    assert netrunner.run(["name", "-c", "echo $0"], executable="/bin/sh", stdout=PIPE).stdout == b"name\n"
    assert netrunner.run("echo $0", shell=True, executable="/bin/bash", stdout=PIPE).stdout == b"/bin/bash\n"


def test_descriptors():
    read, write = os.pipe()
    os.write(write, b"through")
    os.close(write)
    try:
        code = "import os, sys; print(os.read(int(sys.argv[1]), 100), sorted(map(int, os.listdir('/proc/self/fd'))))"
        done = netrunner.run([sys.executable, "-I", "-c", code, str(read)], pass_fds=[read], stdout=PIPE)
        assert done.stdout.startswith(b"b'through'")
        own = {0, 1, 2, read}
        listed = eval(done.stdout.split(b" ", 1)[1])
        assert len(set(listed) - own) == 1  # that of the directory
    finally:
        os.close(read)
    with open("/etc/passwd") as file:
        done = netrunner.run("head -c 4 <&9", shell=True, fds={9: file.fileno()}, stdout=PIPE)
    assert done.stdout == b"root"


def test_close_fds():
    read, write = os.pipe()
    os.set_inheritable(write, True)
    try:
        code = f"test -e /proc/self/fd/{write} && echo open; test -e /proc/self/fd/{read} && echo open; true"
        assert netrunner.run(code, shell=True, stdout=PIPE).stdout == b""
        assert netrunner.run(code, shell=True, stdout=PIPE, close_fds=False).stdout == b"open\n"
    finally:
        os.close(read)
        os.close(write)


def test_limits_umask_nice_session(tmp_path):
    done = netrunner.run("ulimit -n", shell=True, stdout=PIPE, rlimits={resource.RLIMIT_NOFILE: (64, 64)})
    assert done.stdout == b"64\n"
    netrunner.run(["touch", "file"], cwd=tmp_path, umask=0o077)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600
    assert int(netrunner.run("nice", stdout=PIPE, nice=7).stdout) == 7
    code = "import os; print(os.getsid(0) == os.getpid())"
    assert netrunner.run(python(code), stdout=PIPE, start_new_session=True).stdout == b"True\n"
    assert netrunner.run(python(code), stdout=PIPE).stdout == b"False\n"
    code = "grep NoNewPrivs /proc/self/status"
    assert netrunner.run(code, shell=True, stdout=PIPE, no_new_privs=True).stdout.split()[1] == b"1"


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_user_and_groups():
    done = netrunner.run("id -u; id -g; id -G", shell=True, stdout=PIPE, user=65534, group=65534, extra_groups=[5])
    assert done.stdout.split() == [b"65534", b"65534", b"65534", b"5"]
    done = netrunner.run(["id", "-un"], stdout=PIPE, user="nobody", group="nogroup")
    assert done.stdout == b"nobody\n"


def test_pty():
    done = netrunner.run("stty size; tty; test -t 0 && test -t 1 && test -t 2 && echo all", shell=True, pty=True)
    assert done.stdout.split() == [b"24", b"80", *done.stdout.split()[2:3], b"all"]
    assert done.stdout.split()[2].startswith(b"/dev/pts/")
    assert netrunner.run("stty size", shell=True, pty=(30, 100)).stdout == b"30 100\r\n"
    done = netrunner.run("cat", pty=True, echo=False, input="one\ntwo\n", text=True)
    assert done.stdout == "one\ntwo\n"
    assert netrunner.run("cat", pty=True, input=b"x\n").stdout == b"x\r\nx\r\n"


def test_linger():
    program = netrunner.Popen("sleep 1000 & echo $!", shell=True, stdout=PIPE, linger=True)
    pid = int(program.stdout.readline())
    assert program.wait() == 0
    assert alive(pid)
    program.stdout.close()
    del program
    until(lambda: not alive(pid))


def test_keyboard_interrupt_stops_the_tree():
    from support import host

    process = host(
        """
        import netrunner, sys
        try:
            netrunner.run("echo $$; sleep 1000 & echo $!; wait", shell=True)
        except KeyboardInterrupt:
            print("interrupted")
        """
    )
    pids = [int(process.stdout.readline()) for _ in range(2)]
    process.send_signal(signal.SIGINT)
    assert process.stdout.read() == "interrupted\n"
    assert process.wait() == 0
    process.stdout.close()
    assert not any(map(alive, pids))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"args": []}, ValueError),
        ({"args": ["a\0b"]}, ValueError),
        ({"args": 5}, TypeError),
        ({"args": ["true", 5]}, TypeError),
        ({"args": [""]}, FileNotFoundError),
        ({"stdin": PIPE, "input": b""}, ValueError),
        ({"stdout": PIPE, "capture_output": True}, ValueError),
        ({"stdout": STDOUT}, ValueError),
        ({"stdin": 12345}, OSError),
        ({"stdin": -7}, ValueError),
        ({"env": {"A=B": "c"}}, ValueError),
        ({"env": {"A": "c\0"}}, ValueError),
        ({"cwd": "/nonexistent"}, FileNotFoundError),
        ({"preexec_fn": print}, ValueError),
        ({"restore_signals": False}, ValueError),
        ({"process_group": 5}, ValueError),
        ({"creationflags": 1}, ValueError),
        ({"unknown": 1}, TypeError),
        ({"max_output": 0}, ValueError),
        ({"kill_timeout": -1}, ValueError),
        ({"timeout": float("nan")}, ValueError),
        ({"timeout": 1e300}, ValueError),
        ({"pty": (0, 10)}, ValueError),
        ({"echo": False, "pty": False, "rlimits": {resource.RLIMIT_NOFILE: (5, 4)}}, OSError),
        ({"fds": {1: 0}}, ValueError),
        ({"pass_fds": [-1]}, ValueError),
        ({"pass_fds": [12345]}, OSError),
        ({"umask": 0o7777}, OSError),
        ({"nice": 99}, OSError),
        ({"user": "no-such-user"}, KeyError),
        ({"text": True, "universal_newlines": False}, ValueError),
    ],
)
def test_bad_arguments_are_errors(options, error):
    args = options.pop("args", "true")
    with pytest.raises(error):
        netrunner.run(args, **options)


def test_cgroup_options_are_checked():
    with pytest.raises(ValueError):
        netrunner.Cgroup()
    with pytest.raises(ValueError):
        netrunner.Cgroup(base="a", path="b")
