"""Runs one program in a process group of its own, and ends the group when the owner goes away.

Run as a script, of the standard library only: it has to start fast. Its arguments are the program
and the program's arguments. Its stdin is a pipe that only the owner can write to; when that is
closed, on purpose or since the owner was killed, the whole group gets SIGKILL. It exits as the
program does, 128 + the signal's number for a signal. By then nothing of the group is left, nor of
what it put into the temporary folder that it was given: a killed worker leaves files there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

_TIMEOUT = 5.0  # seconds for which a process that is being killed may still write


def main() -> int:
    """Run the program; return its exit code."""
    folder = Path(tempfile.mkdtemp(prefix="example-proj-"))
    program = subprocess.Popen(  # noqa: S603 - the owner's own command
        sys.argv[1:],
        env={**os.environ, "TMPDIR": str(folder)},
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: _end(program.pid))
    threading.Thread(target=_end_with_owner, args=(program.pid,), daemon=True).start()
    code = program.wait()
    _end(program.pid)
    _remove(folder)
    return code if code >= 0 else 128 - code


def _end_with_owner(group: int) -> None:
    while os.read(0, 512):
        pass
    _end(group)


def _end(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # nothing of it is left
        os.killpg(group, signal.SIGKILL)


def _remove(folder: Path) -> None:
    deadline = time.monotonic() + _TIMEOUT
    while folder.exists() and time.monotonic() < deadline:
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main())
