"""``python -m tests.cli.section FILE``: a command that must never run twice at the same time.

It holds an exclusive flock(2) on the file, as do the processes that it starts, says ``on`` (or
``overlap`` when another one has the file) and how it was ended. ``--deaf`` ignores SIGTERM,
``--family`` has it run in a grandchild, ``--brief`` ends it by itself.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import sys
import threading
import time
from pathlib import Path

_BRIEF = 0.2  # seconds


def say(word: str) -> None:
    """Tell the test."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def main() -> None:
    """Hold the file until it is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    for flag in ("--deaf", "--family", "--brief"):
        parser.add_argument(flag, action="store_true")
    options = parser.parse_args()
    if options.deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    file = options.file.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("overlap")
        sys.exit(99)
    if options.family and os.fork():
        os.wait()
        sys.exit(0)
    say("on")
    if options.brief:
        time.sleep(_BRIEF)
    else:
        threading.Event().wait(60)


if __name__ == "__main__":
    main()
