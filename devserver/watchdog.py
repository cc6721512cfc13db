"""The parent process of one mysqld: ends it and removes its folder when the owner goes away.

Run as a script that imports the standard library only, so that it starts fast and stays small. Its
stdin is a pipe that only the owner writes to: however the owner ends, SIGKILL included, the pipe
closes and this process cleans up. Its argument is the server's folder. While it lives it keeps the
file `in-use` in there locked, so that a later start does not remove the folder.

One JSON object a line on stdin: `{"start": argv, "env": {...}, "cwd": "..."}` starts mysqld,
`{"signal": number}` signals it. One a line on stdout: `{"started": pid}` and
`{"ended": return code}`; every start is followed by exactly one end.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Watchdog:
    """Starts and signals one mysqld at a time, and reports when it ends."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server: subprocess.Popen[bytes] | None = None
        self._wake, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # without a handler no byte is written

    def run(self) -> None:
        """Obey the owner until it closes the pipe."""
        rest = b""
        while True:
            ready, _, _ = select.select([0, self._wake], [], [])
            if self._wake in ready:
                os.read(self._wake, 512)
                self._reap()
            if 0 in ready:
                data = os.read(0, 65536)
                if not data:
                    return
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self._obey(json.loads(line))

    def clean_up(self) -> None:
        """Kill mysqld and remove the folder."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()
        shutil.rmtree(self._folder)

    def _obey(self, order: dict[str, Any]) -> None:
        if "start" in order:
            with (self._folder / "mysqld.out").open("ab") as out:
                self._server = subprocess.Popen(  # noqa: S603 - the owner's own command
                    order["start"],
                    env={**os.environ, **order["env"]},
                    cwd=order["cwd"],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    preexec_fn=_die_with_parent(),  # noqa: PLW1509 - this process has one thread
                )
            self._tell(started=self._server.pid)
        elif self._server is not None:
            self._server.send_signal(order["signal"])

    def _reap(self) -> None:
        if self._server is not None and self._server.poll() is not None:
            code, self._server = self._server.returncode, None
            self._tell(ended=code)

    @staticmethod
    def _tell(**fact: int) -> None:
        # an owner that is gone is noticed on stdin
        with contextlib.suppress(BrokenPipeError):
            os.write(1, json.dumps(fact).encode() + b"\n")


def _die_with_parent() -> Any:  # noqa: ANN401 - whatever preexec_fn takes
    """Return a hook that makes the kernel kill the child when this process dies. Linux only."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    parent = os.getpid()

    def in_child() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the call above
            os._exit(1)

    return in_child


def main() -> None:
    """Guard the folder named on the command line."""
    folder = Path(sys.argv[1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with (folder / "in-use").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        watchdog = Watchdog(folder)
        try:
            watchdog.run()
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            watchdog.clean_up()


if __name__ == "__main__":
    main()
