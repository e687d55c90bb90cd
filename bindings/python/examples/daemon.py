# SPDX-License-Identifier: Apache-2.0
"""A program that fails twice, is started again, and is stopped in the end."""

import logging
import os
import sys
import tempfile
import time

from netrunner import Backoff, Daemon

logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(name)s: %(message)s")

with tempfile.TemporaryDirectory() as directory:
    code = 'echo x >>tries; test $(wc -l <tries) -gt 2 || exit 1; echo "up at last"; touch up; exec sleep 1000'
    daemon = Daemon(
        code,
        shell=True,
        cwd=directory,
        stdout=logging.getLogger("server"),
        restart="on-failure",
        backoff=Backoff(initial=0.05),
        wait_for=lambda: os.path.isdir(directory),
    )
    with daemon:
        while not os.path.exists(os.path.join(directory, "up")):
            time.sleep(0.01)
    print("restarts:", daemon.restarts)
    print("ended by signal", daemon.outcome and daemon.outcome.signal)

# Output:
# server: up at last
# restarts: 2
# ended by signal 15
