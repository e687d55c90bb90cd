# SPDX-License-Identifier: Apache-2.0
"""Long-lived programs: started, drained, restarted, stopped."""

from __future__ import annotations

import asyncio
import inspect
import logging
import subprocess
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    Awaitable,
    Callable,
    Literal,
    Optional,
    Set,
    Type,
    Union,
)

from ._handle import Outcome
from ._options import DEVNULL, PIPE, STDOUT, Command, ProgramOptions

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from .asyncio import Process

Sink = Union[None, "logging.Logger", "logging.LoggerAdapter[Any]", Callable[[bytes], Any]]
Check = Callable[[], Union[Any, Awaitable[Any]]]
Restart = Literal["never", "on-failure", "always"]

_CHUNK = 64 * 1024
_LINE_MAX = 64 * 1024

_log = logging.getLogger("netrunner")


@dataclass(frozen=True)
class Backoff:
    """How long to wait before the next attempt, in seconds.

    The first time `initial`, then each time `factor` times as long, `maximum`
    at most. A program that has run for `reset` seconds starts at `initial`.
    """

    initial: float = 0.5
    factor: float = 2.0
    maximum: float = 60.0
    reset: float = 10.0

    def __post_init__(self) -> None:
        if not (0 <= self.initial <= self.maximum and self.factor >= 1 and self.reset >= 0):
            raise ValueError(f"back-off: {self}")

    def delay(self, failures: int) -> float:
        """After so many failures in a row, of which there is at least one."""
        delay = self.initial
        for _ in range(failures - 1):
            delay *= self.factor
            if delay >= self.maximum:
                break
        return min(delay, self.maximum)


class _Lines:
    """Logs whole lines. One that is longer than 64 KiB is logged in pieces."""

    def __init__(self, logger: Union[logging.Logger, logging.LoggerAdapter[Any]], level: int) -> None:
        self._logger = logger
        self._level = level
        self._rest = bytearray()

    def feed(self, data: bytes) -> None:
        self._rest += data
        *lines, rest = self._rest.split(b"\n")
        for line in lines:
            self._emit(self._cut(line))
        self._rest = self._cut(rest)

    def end(self) -> None:
        if self._rest:
            self._emit(self._rest)
            self._rest = bytearray()

    def _cut(self, line: bytearray) -> bytearray:
        """Logs of a line what is too much, and returns the rest."""
        while len(line) > _LINE_MAX:
            self._emit(line[:_LINE_MAX])
            del line[:_LINE_MAX]
        return line

    def _emit(self, line: bytearray) -> None:
        if line.endswith(b"\r"):
            line = line[:-1]
        self._logger.log(self._level, "%s", line.decode(errors="replace"))


class Daemon:
    """Keeps a long-lived program running, in the running loop.

        async with Daemon(["server", "--port", "80"], stdout=logger, restart="on-failure") as daemon:
            ...

    args, shell     as for create_subprocess_exec(); so are the further options
    stdout          where the output goes: None discards it; a logger gets it by
                    whole lines; anything else is called with bytes, as they
                    come. A coroutine function is awaited, and slows the program
                    down; another one must not block the loop
    stderr          the same; STDOUT: wherever stdout goes
    level           of what is logged
    restart         "never", "on-failure" (it did not exit with status 0, or
                    could not be started again) or "always"
    backoff         a Backoff: how long to wait before that
    max_restarts    None: no limit
    wait_for        is called before each start, and has to succeed first: what it
                    raises, or returns False, means not yet, and it is called
                    again after a back-off. A function runs in a thread of the
                    loop's executor, and may block; a coroutine function is awaited
    wait_for_timeout    seconds after which TimeoutError is raised instead

    A daemon is started once. When its Task is cancelled, or the block is left,
    the program is stopped: SIGTERM to the tree, kill_timeout seconds, SIGKILL.
    """

    def __init__(
        self,
        args: Command,
        *,
        shell: bool = False,
        stdout: Sink = None,
        stderr: Union[int, Sink] = STDOUT,
        level: int = logging.INFO,
        restart: Restart = "never",
        backoff: Optional[Backoff] = None,
        max_restarts: Optional[int] = None,
        wait_for: Optional[Check] = None,
        wait_for_timeout: Optional[float] = None,
        **options: Unpack[ProgramOptions],
    ) -> None:
        if restart not in ("never", "on-failure", "always"):
            raise ValueError(f"restart: {restart!r}")
        for name, sink in (("stdout", stdout), ("stderr", stderr)):
            loggers = (logging.Logger, logging.LoggerAdapter)
            if not (sink is None or isinstance(sink, loggers) or callable(sink) or (name, sink) == ("stderr", STDOUT)):
                raise TypeError(f"{name}: expected a callable, a logger or None, not {type(sink).__name__}")
        self.args = args
        self._shell = shell
        self._stdout = stdout
        self._stderr = stderr
        self._level = level
        self._restart = restart
        self._backoff = backoff or Backoff()
        self._max_restarts = max_restarts
        self._wait_for = wait_for
        self._wait_for_timeout = wait_for_timeout
        self._options = options
        self._task: Optional[asyncio.Task[Optional[Outcome]]] = None
        self._program: Optional[Process] = None
        self._stopping = False
        self._outcome: Optional[Outcome] = None
        self._restarts = 0

    def __repr__(self) -> str:
        state = "stopped" if self._task is None or self._task.done() else f"pid={self.pid} restarts={self._restarts}"
        return f"<{type(self).__name__} {self.args!r} {state}>"

    @property
    def pid(self) -> Optional[int]:
        """The program's process id, or None while none runs."""
        return None if self._program is None else self._program.pid

    @property
    def process(self) -> Optional[Process]:
        """The program that runs now, or None."""
        return self._program

    @property
    def restarts(self) -> int:
        """How often the program has been started again."""
        return self._restarts

    @property
    def outcome(self) -> Optional[Outcome]:
        """How the program ended the last time."""
        return self._outcome

    async def start(self) -> None:
        """Starts the program, and returns when it has been executed.

        Raises what create_subprocess_exec() does, and TimeoutError of wait_for.
        """
        if self._task is not None:
            raise RuntimeError("a daemon is started once")
        loop = asyncio.get_running_loop()
        started: asyncio.Future[None] = loop.create_future()
        self._task = loop.create_task(self._supervise(started))
        try:
            both: Set[asyncio.Future[Any]] = {self._task, started}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self.stop()
            raise
        if not started.done():
            started.cancel()
            await self._task  # raises why

    async def stop(self) -> Optional[Outcome]:
        """Stops the program, if it runs, and starts it no more. Returns how it ended.

        SIGTERM to the tree, kill_timeout seconds, SIGKILL. Its last output is
        taken before this returns.
        """
        self._begin_to_stop()
        if self._task is not None:
            await asyncio.wait({self._task})
        return self._outcome

    def _begin_to_stop(self) -> None:
        self._stopping = True
        if self._program is not None:
            self._program.stop()
        elif self._task is not None:
            self._task.cancel()

    async def wait(self) -> Optional[Outcome]:
        """Waits until the program has ended and is not started again. Returns how it ended the last time.

        Raises why it could not be started again.
        """
        if self._task is None:
            raise RuntimeError("not started")
        await asyncio.wait({self._task})
        return self._outcome if self._task.cancelled() else self._task.result()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: Optional[Type[BaseException]],
        exc: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        await self.stop()

    async def _supervise(self, started: asyncio.Future[None]) -> Optional[Outcome]:
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            if self._stopping:
                return self._outcome
            await self._ready()
            since = loop.time()
            try:
                outcome = await self._run_once(started)
            except OSError as exc:
                if not started.done() or self._restart == "never":
                    raise
                _log.warning("%r can't be started again: %s", self.args, exc)
                failure: Optional[OSError] = exc
            else:
                self._outcome, failure = outcome, None
                if self._stopping or not self._is_restarted(outcome):
                    return outcome
            if self._max_restarts is not None and self._restarts >= self._max_restarts:
                if failure is not None:
                    raise failure
                return self._outcome
            failures = 1 if failure is None and loop.time() - since >= self._backoff.reset else failures + 1
            await asyncio.sleep(self._backoff.delay(failures))
            self._restarts += 1

    def _is_restarted(self, outcome: Outcome) -> bool:
        return self._restart == "always" or (self._restart == "on-failure" and outcome.returncode != 0)

    async def _ready(self) -> None:
        """Returns when wait_for has succeeded."""
        if self._wait_for is None:
            return
        loop = asyncio.get_running_loop()
        deadline = None if self._wait_for_timeout is None else loop.time() + self._wait_for_timeout
        failures = 0
        while True:
            left = None if deadline is None else max(0.0, deadline - loop.time())
            reason: Optional[BaseException] = None
            try:
                if await asyncio.wait_for(self._check(self._wait_for), left) is not False:
                    return
            except asyncio.CancelledError:
                raise
            except Exception as exc:
                reason = exc
            failures += 1
            delay = self._backoff.delay(failures)
            if deadline is not None and loop.time() + delay >= deadline:
                raise TimeoutError(f"wait_for: no success within {self._wait_for_timeout} seconds") from reason
            _log.debug("%r: wait_for: not yet: %r", self.args, reason)
            await asyncio.sleep(delay)

    @staticmethod
    async def _check(check: Check) -> Any:
        if inspect.iscoroutinefunction(check):
            return await check()
        result = await asyncio.get_running_loop().run_in_executor(None, check)
        return await result if inspect.isawaitable(result) else result

    async def _run_once(self, started: asyncio.Future[None]) -> Outcome:
        from .asyncio import _create

        stdout = DEVNULL if self._stdout is None else PIPE
        stderr: int = DEVNULL if self._stderr is None else PIPE
        if isinstance(self._stderr, int):
            stderr = STDOUT if self._stdout is not None else DEVNULL
        program = await _create(self.args, self._shell, DEVNULL, stdout, stderr, _CHUNK, None, self._options)
        async with program:
            self._program = program
            if not started.done():
                started.set_result(None)
            if self._stopping:  # while it was being started
                program.stop()
            try:
                await asyncio.gather(
                    self._drain(program.stdout, self._stdout), self._drain(program.stderr, self._stderr)
                )
                await program._transport._wait()
            finally:
                self._program = None
        outcome = program.outcome
        assert outcome is not None
        return outcome

    async def _drain(self, reader: Optional[asyncio.StreamReader], sink: Union[int, Sink]) -> None:
        if reader is None or sink is None or isinstance(sink, int):
            return
        lines = None
        if isinstance(sink, (logging.Logger, logging.LoggerAdapter)):
            lines = _Lines(sink, self._level)
            sink = lines.feed
        while True:
            data = await reader.read(_CHUNK)
            if not data:
                break
            try:
                result = sink(data)
                if inspect.isawaitable(result):
                    await result
            except Exception:
                # The program must not hang because of it.
                _log.exception("%r: exception in what takes its output", self.args)
        if lines is not None:
            lines.end()


class ThreadedDaemon:
    """Keeps a long-lived program running, from a thread of its own.

        with Daemon(["server", "--port", "80"], stdout=logger, restart="on-failure") as daemon:
            ...

    Takes the arguments of netrunner.asyncio.Daemon. What takes the output is
    called in that thread, and may block: the program waits then.
    """

    def __init__(self, args: Command, **options: Any) -> None:
        self._daemon = Daemon(args, **options)
        self._thread: Optional[threading.Thread] = None
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._over: Future[Optional[Outcome]] = Future()

    def __repr__(self) -> str:
        return repr(self._daemon)

    @property
    def pid(self) -> Optional[int]:
        """The program's process id, or None while none runs."""
        return self._daemon.pid

    @property
    def restarts(self) -> int:
        """How often the program has been started again."""
        return self._daemon.restarts

    @property
    def outcome(self) -> Optional[Outcome]:
        """How the program ended the last time."""
        return self._daemon.outcome

    def start(self) -> None:
        """Starts the program, and returns when it has been executed. Raises why it can't be."""
        if self._thread is not None:
            raise RuntimeError("a daemon is started once")
        started: Future[None] = Future()
        # No reason to keep the interpreter from exiting: the program ends with it.
        self._thread = threading.Thread(target=self._run, args=(started,), name="netrunner.Daemon", daemon=True)
        self._thread.start()
        try:
            started.result()
        except BaseException:
            self.stop()
            raise

    def _run(self, started: Future[None]) -> None:
        async def supervise() -> Optional[Outcome]:
            self._loop = asyncio.get_running_loop()
            try:
                await self._daemon.start()
            except BaseException as exc:
                started.set_exception(exc)
                return None
            started.set_result(None)
            return await self._daemon.wait()

        try:
            self._over.set_result(asyncio.run(supervise()))
        except BaseException as exc:
            self._over.set_exception(exc)

    def stop(self) -> Optional[Outcome]:
        """Stops the program and waits for its end; it is started no more. Returns how it ended."""
        if self._thread is not None:
            self._daemon._stopping = True  # if it is still about to start
            if self._loop is not None:
                try:
                    self._loop.call_soon_threadsafe(self._daemon._begin_to_stop)
                except RuntimeError:
                    pass  # it is over
            self._thread.join()
        return self._daemon.outcome

    def wait(self, timeout: Optional[float] = None) -> Optional[Outcome]:
        """Waits until the program has ended and is not started again. Returns how it ended the last time.

        Raises TimeoutExpired, and why the program could not be started again.
        """
        if self._thread is None:
            raise RuntimeError("not started")
        self._thread.join(timeout)
        if self._thread.is_alive():
            assert timeout is not None
            raise subprocess.TimeoutExpired(self._daemon.args, timeout)
        return self._over.result()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: Optional[Type[BaseException]],
        exc: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.stop()
