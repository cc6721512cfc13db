"""``python -m benchmarks.locks.rival KIND NAME``: takes a lock and gives it back when told so.

It reads ``take`` and ``give`` from its stdin, and answers with the moment: when it had the lock,
and when it began to give it back, on the clock of ``time.monotonic``. It ends with its stdin.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import IO

from benchmarks.locks import kinds


class Rival:
    """Another process that takes a lock, from the outside.

    Args:
        kind: One of ``kinds``.
        name: The lock's name.
        mysql_url: The server of ours.
        redis_url: Redis.
    """

    def __init__(self, kind: str, name: str, mysql_url: str, redis_url: str) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - this very module
            [sys.executable, "-m", "benchmarks.locks.rival", kind, name],
            env={**os.environ, "LOCKS_MYSQL": mysql_url, "LOCKS_REDIS": redis_url},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self.hear()  # connected

    def tell(self, command: str) -> None:
        """Tell it to ``take`` or to ``give``."""
        _pipe(self._process.stdin).write(f"{command}\n")

    def hear(self) -> float:
        """The moment that it answers with."""
        return float(_pipe(self._process.stdout).readline())

    def kill(self) -> float:
        """SIGKILL; return when."""
        at = time.monotonic()
        self._process.kill()
        return at

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            _pipe(pipe).close()


def _pipe(pipe: IO[str] | None) -> IO[str]:
    if pipe is None:
        raise ValueError("The rival was started without pipes.")
    return pipe


def _say(moment: float) -> None:
    sys.stdout.write(f"{moment!r}\n")
    sys.stdout.flush()


def _main(kind: str, name: str) -> None:
    pair = kinds.make(kind, name, os.environ["LOCKS_MYSQL"], os.environ["LOCKS_REDIS"])
    _say(time.monotonic())
    for line in sys.stdin:
        if line.strip() == "take":
            pair.take()
            _say(time.monotonic())
        else:
            moment = time.monotonic()
            pair.give()
            _say(moment)


if __name__ == "__main__":
    _main(*sys.argv[1:])
