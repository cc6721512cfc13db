"""A real ``celery worker`` for the acceptance tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self


class Worker:
    """A worker process with the application of ``tests.tasks.app``.

    Args:
        pool: ``prefork``, ``solo``, ``threads`` or ``gevent``.
        folder: Where its log goes.
        environment: What the application is configured with.

    The worker's queue has the name of its pool.
    """

    def __init__(self, pool: str, folder: Path, environment: dict[str, str]) -> None:
        self.pool = pool
        self.log = folder / f"worker-{pool}-{len(list(folder.glob('worker-*')))}.log"
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "celery", "-A", "tests.tasks.app", "worker"),
                    *("--pool", self.pool, "--concurrency", "1" if self.pool == "solo" else "3"),
                    *("--loglevel", "DEBUG", "--without-gossip", "--without-mingle"),
                    *("--queues", self.pool),
                    *("--hostname", f"{self.log.stem}@localhost"),
                ],
                env={**os.environ, **self._environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        eventually(self._is_ready, 60, f"a {self.pool} worker")
        return self

    def _is_ready(self) -> bool:
        if not self.is_running:
            raise AssertionError(f"the worker has ended:\n{self.text()}")
        return " ready." in self.text()

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def text(self) -> str:
        """What it has logged."""
        return self.log.read_text(errors="replace")

    def send(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def wait(self, seconds: float = 60) -> int:
        """Wait until it has ended."""
        return self._process.wait(seconds) if self._process is not None else 0

    def stop(self) -> None:
        """End it warmly; by force when that takes too long."""
        if self._process is not None:
            self.send(signal.SIGTERM)
            try:
                self.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self.wait()
