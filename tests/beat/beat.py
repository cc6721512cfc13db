"""A real ``celery beat`` process, to be watched and killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.waiting import eventually

_ROOT = Path(__file__).parents[2]


class Beat:
    """``celery beat -S mysqllock`` of tests.beat.app, or another command of it."""

    def __init__(self, name: str, folder: Path, *command: str, **environment: str) -> None:
        self.name = name
        self._log = folder / f"{name}.log"
        with self._log.open("wb") as out:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "celery", "-A", "tests.beat.app"),
                    *(command or ("beat", "-S", "mysqllock", "--pidfile=")),
                    "--loglevel=INFO",
                ],
                cwd=_ROOT,
                env={**os.environ, "BEAT": name, **environment},
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def await_log(self, text: str, times: int = 1) -> None:
        def seen() -> bool:
            found = self.log.count(text) >= times
            assert found or self.process.poll() is None, f"the beat has ended:\n{self.log}"
            return found

        eventually(seen, what=f"{text!r} in a beat's log")

    def await_active(self, times: int = 1) -> None:
        self.await_log("This beat is the active one", times)

    def await_standby(self) -> None:
        self.await_log("this one stands by")

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)

    def kill(self) -> None:
        """SIGKILL to it and its children."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.process.wait(30)
