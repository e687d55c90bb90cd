# SPDX-License-Identifier: Apache-2.0
import asyncio
import gc
import threading

import pytest

import netrunner
from support import children_of_shepherd, descriptors, run, until


@pytest.fixture(scope="session", autouse=True)
def started():
    """What the first program brings for good: the runtime, the shepherd, their descriptors."""
    netrunner.run("true")
    netrunner.run("true", own_shepherd=True)
    try:  # the same of uvloop
        import uvloop
    except ImportError:
        return
    run(asyncio.sleep(0), uvloop.new_event_loop)


@pytest.fixture(autouse=True)
def nothing_is_left(started):
    """No test leaves a descriptor, a thread or a program."""
    gc.collect()
    before, threads = descriptors(), set(threading.enumerate())
    yield
    gc.collect()
    until(lambda: not children_of_shepherd(), what=lambda: f"programs are left: {children_of_shepherd()}")
    until(lambda: set(threading.enumerate()) <= threads, what=lambda: f"threads are left: {threading.enumerate()}")
    until(
        lambda: len(descriptors()) <= len(before),
        what=lambda: f"descriptors are left: {set(descriptors().items()) - set(before.items())}",
    )


@pytest.fixture(params=["asyncio", "uvloop"])
def arun(request):
    """Runs a coroutine in a new loop, of asyncio and of uvloop, in debug mode."""
    if request.param == "asyncio":
        return run
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed")
    return lambda main: run(main, uvloop.new_event_loop)


@pytest.fixture
def errors_of_loop():
    """What a loop's exception handler is given, instead of a line in the log."""
    found = []

    def install():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: found.append(context))
        return found

    return install
