"""A real ``celery worker`` process, to be watched and killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path


class Worker:
    """A worker of tests.broker.app, in a process group of its own."""

    def __init__(self, url: str, log: Path, *options: str, **environment: str) -> None:
        self._log = log
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "celery", "-A", "tests.broker.app", "worker"),
                    *("--loglevel=INFO", "--concurrency=2", "-n", f"{log.stem}@test", *options),
                ],
                env={**os.environ, "BROKER_URL": url, **environment},
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    def await_log(self, text: str, within: float = 30.0) -> None:
        eventually(lambda: text in self.log or not self.runs, within, f"{text!r} in a log")
        assert text in self.log, self.log

    def await_ready(self) -> None:
        self.await_log(" ready.")

    def kill(self) -> None:
        """SIGKILL to the whole worker, children and all."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self._process.wait()

    def stop(self) -> int:
        """Ask for a warm shutdown and return the exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        return self._process.wait(60)
