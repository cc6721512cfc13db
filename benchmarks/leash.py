"""``python -m benchmarks.leash MODULE ...``: run a module, and end it when its owner goes away.

Its stdin is a pipe that only the owner can write to. When that is closed, on purpose or since the
owner was killed, the module's whole process group gets SIGKILL.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading


def main() -> None:
    """Run the module that the command line names as ``python -m`` would."""
    pipe = os.dup(0)
    threading.Thread(target=_end_with_owner, args=(pipe,), name="leash", daemon=True).start()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _end_with_owner(pipe: int) -> None:
    while os.read(pipe, 512):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
