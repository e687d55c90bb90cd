# SPDX-License-Identifier: Apache-2.0
"""run(): a program from its start to its end in one call."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any, Generic, Literal, Optional, Tuple, TypeVar, Union, overload

from ._handle import Outcome, Reason, Statistics
from ._options import PIPE, Command, File, ProgramOptions
from ._popen import Popen

if TYPE_CHECKING:
    from typing_extensions import Unpack

T = TypeVar("T")


class CompletedProcess(subprocess.CompletedProcess, Generic[T]):  # type: ignore[type-arg]
    """What run() returns: subprocess.CompletedProcess, and

    outcome     how the program ended
    stats       numbers about it
    """

    stdout: T
    stderr: T

    def __init__(
        self,
        args: Command,
        returncode: int,
        stdout: Any = None,
        stderr: Any = None,
        *,
        outcome: Outcome,
        stats: Statistics,
    ) -> None:
        super().__init__(args, returncode, stdout, stderr)
        self.outcome = outcome
        self.stats = stats


def pipes(
    pty: Union[bool, Tuple[int, int]],
    has_input: bool,
    capture_output: bool,
    stdin: File,
    stdout: File,
    stderr: File,
) -> Tuple[File, File, File]:
    """run()'s streams from its arguments."""
    if has_input:
        if stdin is not None:
            raise ValueError("stdin and input arguments may not both be used.")
        if not pty:
            stdin = PIPE
    if capture_output:
        if stdout is not None or stderr is not None:
            raise ValueError("stdout and stderr arguments may not be used with capture_output.")
        if not pty:  # a terminal is always captured, and takes both
            stdout = stderr = PIPE
    return stdin, stdout, stderr


def raise_for(
    args: Command,
    outcome: Outcome,
    timeout: Optional[float],
    check: bool,
    output: Any,
    stderr: Any,
    raw: Tuple[Optional[bytes], Optional[bytes]],
) -> None:
    """The exceptions of run() for how a program ended."""
    if outcome.reason is Reason.TIMEOUT:
        assert timeout is not None
        raise subprocess.TimeoutExpired(args, timeout, *raw)
    if check and outcome.returncode:
        raise subprocess.CalledProcessError(outcome.returncode, args, output, stderr)


@overload
def run(
    args: Command,
    *,
    stdin: File = ...,
    input: Optional[str] = ...,
    stdout: File = ...,
    stderr: File = ...,
    capture_output: bool = ...,
    shell: bool = ...,
    timeout: Optional[float] = ...,
    check: bool = ...,
    text: Literal[True],
    encoding: Optional[str] = ...,
    errors: Optional[str] = ...,
    universal_newlines: Optional[bool] = ...,
    **options: Unpack[ProgramOptions],
) -> CompletedProcess[str]: ...


@overload
def run(
    args: Command,
    *,
    stdin: File = ...,
    input: Optional[str] = ...,
    stdout: File = ...,
    stderr: File = ...,
    capture_output: bool = ...,
    shell: bool = ...,
    timeout: Optional[float] = ...,
    check: bool = ...,
    text: Optional[bool] = ...,
    encoding: str,
    errors: Optional[str] = ...,
    universal_newlines: Optional[bool] = ...,
    **options: Unpack[ProgramOptions],
) -> CompletedProcess[str]: ...


@overload
def run(
    args: Command,
    *,
    stdin: File = ...,
    input: Optional[bytes] = ...,
    stdout: File = ...,
    stderr: File = ...,
    capture_output: bool = ...,
    shell: bool = ...,
    timeout: Optional[float] = ...,
    check: bool = ...,
    text: Optional[Literal[False]] = ...,
    encoding: None = ...,
    errors: None = ...,
    universal_newlines: Optional[Literal[False]] = ...,
    **options: Unpack[ProgramOptions],
) -> CompletedProcess[bytes]: ...


@overload
def run(
    args: Command,
    *,
    stdin: File = ...,
    input: Union[None, str, bytes] = ...,
    stdout: File = ...,
    stderr: File = ...,
    capture_output: bool = ...,
    shell: bool = ...,
    timeout: Optional[float] = ...,
    check: bool = ...,
    text: Optional[bool] = ...,
    encoding: Optional[str] = ...,
    errors: Optional[str] = ...,
    universal_newlines: Optional[bool] = ...,
    **options: Unpack[ProgramOptions],
) -> CompletedProcess[Any]: ...


def run(
    args: Command,
    *,
    stdin: File = None,
    input: Union[None, str, bytes] = None,
    stdout: File = None,
    stderr: File = None,
    capture_output: bool = False,
    shell: bool = False,
    timeout: Optional[float] = None,
    check: bool = False,
    text: Optional[bool] = None,
    encoding: Optional[str] = None,
    errors: Optional[str] = None,
    universal_newlines: Optional[bool] = None,
    **options: Unpack[ProgramOptions],
) -> CompletedProcess[Any]:
    """Runs a program to its end, and returns what it wrote and how it ended.

    As subprocess.run(), with the same arguments, and those of ProgramOptions:

    input           bytes (in text mode str) for the program's stdin
    capture_output  stdout and stderr into the result
    timeout         seconds; then the tree is stopped (SIGTERM, `kill_timeout`
                    seconds, SIGKILL) and TimeoutExpired is raised
    check           raise CalledProcessError unless the exit status is 0
    max_output      raise OutputLimitExceeded when there are more bytes

    These exceptions carry the output so far. Whatever is raised, KeyboardInterrupt
    too: the tree has ended before.
    """
    stdin, stdout, stderr = pipes(options.get("pty", False), input is not None, capture_output, stdin, stdout, stderr)
    with Popen[Any](
        args,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        shell=shell,
        timeout=timeout,
        text=text,
        encoding=encoding,
        errors=errors,
        universal_newlines=universal_newlines,
        **options,
    ) as program:
        output, error_output = program.communicate(input)
        outcome = program.outcome
        assert outcome is not None
        raise_for(args, outcome, timeout, check, output, error_output, program.raw_output())
        return CompletedProcess(args, outcome.returncode, output, error_output, outcome=outcome, stats=program.stats())
