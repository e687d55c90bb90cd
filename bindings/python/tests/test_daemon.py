# SPDX-License-Identifier: Apache-2.0
import asyncio
import logging
import os
import signal
import subprocess
import time

import pytest

import netrunner
from netrunner.asyncio import STDOUT, Backoff, Daemon
from support import alive, auntil, python, run, until

QUICK = Backoff(initial=0.01, factor=1, maximum=0.01)


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.DEBUG)
    return lambda: [(record.levelno, record.getMessage()) for record in caplog.records if record.name == "program"]


def test_output_to_a_callback(arun):
    async def main():
        chunks = []
        async with Daemon("echo out; echo err >&2; sleep 1000", shell=True, stdout=chunks.append) as daemon:
            await auntil(lambda: b"".join(chunks) == b"out\nerr\n")
            assert alive(daemon.pid) and daemon.process.pid == daemon.pid
            pid = daemon.pid
        assert daemon.outcome.signal == signal.SIGTERM and daemon.pid is None
        assert not alive(pid)

    arun(main())


def test_output_to_a_coroutine_function_is_awaited(arun):
    async def main():
        busy, sizes = 0, []

        async def take(data):
            nonlocal busy
            busy += 1
            assert busy == 1
            await asyncio.sleep(0)
            sizes.append(len(data))
            busy -= 1

        async with Daemon(["head", "-c", "1000000", "/dev/zero"], stdout=take) as daemon:
            await daemon.wait()
        assert sum(sizes) == 1_000_000

    arun(main())


def test_output_to_a_logger_comes_by_whole_lines(arun, log):
    logger = logging.getLogger("program")

    async def main():
        code = r"printf 'one\ntw'; sleep 0.05; printf 'o\r\n\n\377'; printf '%070000d\n' 1; printf end"
        async with Daemon(code, shell=True, stdout=logger, level=logging.WARNING) as daemon:
            await daemon.wait()

    arun(main())
    long = "\ufffd" + "%070000d" % 1
    expected = ["one", "two", "", long[:65536], long[65536:], "end"]
    assert log() == [(logging.WARNING, line) for line in expected]


def test_stderr_of_its_own(arun, log):
    chunks = []

    async def main():
        adapter = logging.LoggerAdapter(logging.getLogger("program"), {})
        async with Daemon("echo out; echo err >&2", shell=True, stdout=chunks.append, stderr=adapter) as daemon:
            await daemon.wait()
        async with Daemon("echo out; echo more >&2", shell=True, stderr=adapter) as daemon:
            await daemon.wait()

    arun(main())
    assert b"".join(chunks) == b"out\n"
    assert [text for _, text in log()] == ["err", "more"]


def test_discarded_output_does_not_fill_a_pipe(arun):
    async def main():
        async with Daemon("head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2; exit 4", shell=True) as daemon:
            assert (await daemon.wait()).code == 4

    arun(main())


def test_a_broken_callback_does_not_stop_it(arun, caplog):
    async def main():
        def broken(data):
            raise ZeroDivisionError

        async with Daemon("head -c 1000000 /dev/zero; exit 4", shell=True, stdout=broken) as daemon:
            assert (await daemon.wait()).code == 4

    arun(main())
    assert "exception in what takes its output" in caplog.text


@pytest.mark.parametrize(
    ("policy", "code", "starts"),
    [("never", 0, 1), ("never", 1, 1), ("on-failure", 0, 1), ("on-failure", 1, 4), ("always", 0, 4), ("always", 1, 4)],
)
def test_restart_policies(policy, code, starts):
    async def main():
        chunks = []
        daemon = Daemon(
            f"echo x; exit {code}", shell=True, stdout=chunks.append, restart=policy, backoff=QUICK, max_restarts=3
        )
        await daemon.start()
        outcome = await daemon.wait()
        assert outcome.code == code and daemon.restarts == starts - 1
        assert b"".join(chunks) == b"x\n" * starts

    run(main())


def test_restart_after_a_signal():
    async def main():
        async with Daemon(["sleep", "1000"], restart="on-failure", backoff=QUICK) as daemon:
            first = daemon.pid
            os.kill(first, signal.SIGKILL)
            await auntil(lambda: daemon.pid not in (None, first))
            assert daemon.restarts == 1 and alive(daemon.pid)

    run(main())


def test_restarts_go_on_when_the_program_is_missing_for_a_while(tmp_path):
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\nexit 1\n")
    script.chmod(0o755)

    async def main():
        async with Daemon([script], restart="on-failure", backoff=QUICK) as daemon:
            script.rename(tmp_path / "away")
            await auntil(lambda: daemon.restarts > 2)
            (tmp_path / "away").write_text("#!/bin/sh\nsleep 1000\n")
            (tmp_path / "away").rename(script)
            await auntil(lambda: daemon.pid is not None)

    run(main())


def test_back_off():
    backoff = Backoff(initial=1, factor=2, maximum=5)
    assert [backoff.delay(n) for n in (1, 2, 3, 4, 1000)] == [1, 2, 4, 5, 5]
    with pytest.raises(ValueError):
        Backoff(initial=2, maximum=1)
    with pytest.raises(ValueError):
        Backoff(factor=0.5)

    async def main():
        starts = []
        daemon = Daemon(
            "echo x; exit 1",
            shell=True,
            stdout=lambda data: starts.append(time.monotonic()),
            restart="on-failure",
            backoff=Backoff(initial=0.05, factor=3, maximum=10),
            max_restarts=2,
        )
        await daemon.start()
        await daemon.wait()
        # Not sooner; later a busy machine makes it.
        assert starts[1] - starts[0] >= 0.05 and starts[2] - starts[1] >= 0.15

    run(main())


def test_wait_for_has_to_succeed_first(arun):
    async def main():
        calls = []

        async def ready():
            calls.append(1)
            if len(calls) == 1:
                raise OSError("not yet")
            return len(calls) > 2

        daemon = Daemon("exit 5", shell=True, wait_for=ready, backoff=QUICK)
        await daemon.start()
        assert len(calls) == 3
        assert (await daemon.wait()).code == 5

    arun(main())


def test_wait_for_a_function_that_blocks(tmp_path):
    async def main():
        turns = 0

        def ready():
            time.sleep(0.1)
            return (tmp_path / "file").exists()

        daemon = Daemon(["sleep", "1000"], wait_for=ready, backoff=QUICK)
        starting = asyncio.ensure_future(daemon.start())
        while turns < 20:  # the loop is not blocked
            turns += 1
            await asyncio.sleep(0.005)
        assert not starting.done() and daemon.pid is None
        (tmp_path / "file").touch()
        await starting
        await daemon.stop()

    run(main())


def test_wait_for_timeout():
    async def main():
        daemon = Daemon(["sleep", "1000"], wait_for=lambda: False, wait_for_timeout=0.1, backoff=QUICK)
        with pytest.raises(TimeoutError):
            await daemon.start()
        with pytest.raises(TimeoutError):
            await daemon.wait()

        async def never():
            await asyncio.sleep(1000)

        daemon = Daemon(["sleep", "1000"], wait_for=never, wait_for_timeout=0.1, backoff=QUICK)
        with pytest.raises(TimeoutError):
            await daemon.start()

    run(main())


def test_stop_while_it_waits(arun):
    async def main():
        async def never():
            await asyncio.sleep(1000)

        daemon = Daemon(["sleep", "1000"], wait_for=never)
        starting = asyncio.ensure_future(daemon.start())
        await asyncio.sleep(0.01)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        daemon = Daemon("exit 1", shell=True, restart="always", backoff=Backoff(initial=50, maximum=50))
        await daemon.start()
        await auntil(lambda: daemon.outcome is not None)
        assert (await daemon.stop()).code == 1
        assert (await daemon.wait()).code == 1

    arun(main())


def test_stop_is_graceful_and_takes_the_last_words(arun):
    async def main():
        chunks = []
        code = """
        import signal, sys, time
        def end(*_):
            print("bye")
            sys.exit()
        signal.signal(signal.SIGTERM, end)
        print("ready", flush=True)
        time.sleep(1000)
        """
        daemon = Daemon(python(code), stdout=chunks.append, restart="always", backoff=QUICK)
        await daemon.start()
        await auntil(lambda: chunks)
        outcome = await daemon.stop()
        assert outcome.code == 0 and b"".join(chunks) == b"ready\nbye\n" and daemon.restarts == 0

    arun(main())


def test_stop_kills_after_the_grace():
    async def main():
        chunks = []
        code = "trap '' TERM; echo ready; while :; do sleep 0.01; done"
        async with Daemon(code, shell=True, stdout=chunks.append, kill_timeout=0.1) as daemon:
            await auntil(lambda: chunks)
        assert daemon.outcome.signal == signal.SIGKILL

    run(main())


def test_a_cancelled_task_stops_it(arun):
    async def main():
        pids = []

        async def serve():
            async with Daemon(["sleep", "1000"]) as daemon:
                pids.append(daemon.pid)
                await daemon.wait()

        task = asyncio.ensure_future(serve())
        await auntil(lambda: pids)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not alive(pids[0])

    arun(main())


def test_errors(arun):
    async def main():
        with pytest.raises(FileNotFoundError):
            await Daemon(["no-such-program"], restart="always").start()
        daemon = Daemon(["true"])
        with pytest.raises(RuntimeError):
            await daemon.wait()
        assert await daemon.stop() is None
        await daemon.start()
        with pytest.raises(RuntimeError):
            await daemon.start()
        await daemon.wait()

    arun(main())
    with pytest.raises(ValueError):
        Daemon(["true"], restart="sometimes")
    with pytest.raises(TypeError):
        Daemon(["true"], stdout="file")
    with pytest.raises(TypeError):
        Daemon(["true"], stdout=STDOUT)


def test_for_threads(log):
    with netrunner.Daemon("echo ready; sleep 1000", shell=True, stdout=logging.getLogger("program")) as daemon:
        until(lambda: log() == [(logging.INFO, "ready")])
        pid = daemon.pid
        assert alive(pid)
        with pytest.raises(subprocess.TimeoutExpired):
            daemon.wait(timeout=0.05)
    assert not alive(pid) and daemon.outcome.signal == signal.SIGTERM
    assert daemon.wait().signal == signal.SIGTERM
    assert daemon.stop().signal == signal.SIGTERM


def test_for_threads_restarts_and_errors():
    daemon = netrunner.Daemon(
        "exit 1", shell=True, restart="on-failure", backoff=netrunner.Backoff(0.01, 1, 0.01), max_restarts=2
    )
    daemon.start()
    assert daemon.wait().code == 1 and daemon.restarts == 2
    with pytest.raises(RuntimeError):
        daemon.start()
    with pytest.raises(FileNotFoundError):
        netrunner.Daemon(["no-such-program"]).start()
    with pytest.raises(RuntimeError):
        netrunner.Daemon(["true"]).wait()
