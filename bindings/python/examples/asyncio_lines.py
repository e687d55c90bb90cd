# SPDX-License-Identifier: Apache-2.0
"""Lines as they come, and a cancellation that leaves nothing behind."""

import asyncio

from netrunner.asyncio import PIPE, create_subprocess_exec, create_subprocess_shell


async def main() -> None:
    async with await create_subprocess_exec("seq", "3", stdout=PIPE) as program:
        assert program.stdout is not None
        async for line in program.stdout:
            print("line", int(line))
    print("exit", program.returncode)

    server = await create_subprocess_shell("sleep 1000 & sleep 1000", kill_timeout=1)
    try:
        await asyncio.wait_for(server.communicate(), 0.1)
    except asyncio.TimeoutError:
        # The whole tree is dead here.
        print("ended by", server.outcome and server.outcome.reason.name)


asyncio.run(main())

# Output:
# line 1
# line 2
# line 3
# exit 0
# ended by KILLED
