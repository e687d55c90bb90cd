# SPDX-License-Identifier: Apache-2.0
"""run(): the same call as subprocess.run(), but nothing of the tree is left."""

import netrunner

done = netrunner.run(["tr", "a-z", "A-Z"], input="hello, world\n", capture_output=True, text=True, check=True)
print(done.stdout, end="")

try:
    netrunner.run("echo partial; sleep 1000 & sleep 1000", shell=True, capture_output=True, timeout=0.3)
except netrunner.TimeoutExpired as error:
    print("timed out with", error.output)

try:
    netrunner.run("yes", capture_output=True, max_output=1000)
except netrunner.OutputLimitExceeded as error:
    print("stopped after", len(error.output), "bytes")

try:
    netrunner.run(["no-such-program"])
except FileNotFoundError as error:
    print(error.why if isinstance(error, netrunner.Error) else error)

# Output:
# HELLO, WORLD
# timed out with b'partial\n'
# stopped after 1000 bytes
# execve no-such-program (looked up in PATH): no such file or directory
