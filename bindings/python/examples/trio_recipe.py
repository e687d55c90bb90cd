# SPDX-License-Identifier: Apache-2.0
"""trio, by way of anyio. Needs both."""

import trio

import netrunner.anyio


async def main() -> None:
    with trio.move_on_after(0.2):
        await netrunner.anyio.run("echo up; sleep 1000", shell=True)
    # The tree is dead here.
    async with await netrunner.anyio.open_process(["cat"]) as program:
        assert program.stdin is not None and program.stdout is not None
        await program.stdin.send(b"from trio\n")
        await program.stdin.aclose()
        async for data in program.stdout:
            print(data.decode(), end="")


trio.run(main)

# Output:
# up
# from trio
