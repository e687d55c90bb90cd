# SPDX-License-Identifier: Apache-2.0
"""A hundred programs in one loop, one thread and one watched descriptor."""

import asyncio
from typing import List

from netrunner.asyncio import PIPE, create_subprocess_exec


async def square(number: int) -> int:
    program = await create_subprocess_exec("sh", "-c", f"echo $(({number} * {number}))", stdout=PIPE)
    output, _ = await program.communicate()
    return int(output)


async def main() -> None:
    results: List[int] = await asyncio.gather(*(square(n) for n in range(100)))
    print(sum(results))


asyncio.run(main())

# Output:
# 328350
