"""The crowd: so many ``mysqllock run`` on one name, each followed by another when it has ended."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self

NAME = "section"
_PROGRAM = str(Path(sys.executable).with_name("mysqllock"))
_END = 20.0  # seconds for one that was told to end


class Crowd:
    """Processes that wait for one lock, to run a section under it.

    Args:
        url: The server.
        folder: Where the sections note what happens.
        size: How many there are at a time.

    Attributes:
        ended: How many have ended with which exit code, negative for a signal.
    """

    def __init__(self, url: str, folder: Path, size: int) -> None:
        self.ended: Counter[int] = Counter()
        self._url = url
        self._folder = folder
        self._size = size
        self._log = (folder / "log").open("wb")
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running:
            process.terminate()
        for process in self._running:
            process.wait(_END)
        self._log.close()

    def fill(self) -> None:
        """Start others in the place of those that have ended."""
        for process in list(self._running):
            if process.poll() is not None:
                self.ended[process.returncode] += 1
                self._running.remove(process)
        while len(self._running) < self._size:
            self._running.append(self._start())

    def holder_of(self, guard: int) -> subprocess.Popen[bytes] | None:
        """The one whose guard that is, None when it has ended."""
        try:
            stat = Path(f"/proc/{guard}/stat").read_text()
        except FileNotFoundError:
            return None
        parent = int(stat.rpartition(")")[2].split()[1])
        return next((process for process in self._running if process.pid == parent), None)

    def _start(self) -> subprocess.Popen[bytes]:
        section = (sys.executable, "-m", "benchmarks.run_lock.section", str(self._folder))
        return subprocess.Popen(  # noqa: S603 - our own program
            [_PROGRAM, "run", "--grace", "0.3", NAME, "--", *section],
            env={**os.environ, "MYSQLLOCK_URL": self._url},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
