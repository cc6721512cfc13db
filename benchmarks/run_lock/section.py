"""``python -m benchmarks.run_lock.section FOLDER``: a command that must be alone.

It holds an exclusive flock(2) on a file, as does the process that it may start: when another one
has it, it notes an overlap. Some ignore SIGTERM, some leave a child behind when they are killed.
"""

from __future__ import annotations

import fcntl
import os
import random
import signal
import sys
import time
from pathlib import Path

from benchmarks.notes import Writer

_LONGEST = 0.4  # seconds


def main() -> None:
    """Note the begin, stay for a while, and note the end."""
    folder = Path(sys.argv[1])
    notes = Writer(folder, "section")
    if random.random() < 1 / 3:  # noqa: S311 - no secret
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    has_child = random.random() < 1 / 3  # noqa: S311 - no secret
    with (folder / "alone").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            notes.write("overlap", pid=os.getpid(), guard=os.getppid())
            return
        notes.write("begin", pid=os.getpid(), guard=os.getppid())
        if has_child and os.fork():
            os.wait()
            return
        time.sleep(random.uniform(0, _LONGEST))  # noqa: S311 - no secret
        notes.write("end")


if __name__ == "__main__":
    main()
