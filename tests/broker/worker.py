"""A real ``celery worker`` process, to be watched and killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Celery's pools, those that are installed.
POOLS = ["prefork", "solo", "threads", *(p for p in ("gevent", "eventlet") if find_spec(p))]


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
        return self._log.read_text(errors="replace")

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def most_memory(self) -> int:
        """The most bytes of memory that the worker's main process has ever had."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        most = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert most is not None, status
        return int(most[1]) * 1024

    def await_log(self, text: str, within: float = 30.0) -> None:
        eventually(lambda: text in self.log or self.has_ended, within, f"{text!r} in a log")
        assert text in self.log, self.log

    def await_ready(self) -> None:
        self.await_log(" ready.")

    @contextmanager
    def frozen_pool(self) -> Iterator[None]:
        """Let the processes of a prefork pool stand still; the worker itself goes on."""
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        assert children, "The worker has no pool of processes."
        for child in children:
            os.kill(int(child), signal.SIGSTOP)
        try:
            yield
        finally:
            for child in children:
                os.kill(int(child), signal.SIGCONT)

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
        return self._process.wait(90)
