"""A process that holds a lock and does what it is told, one command a line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from queue import Queue

from celery_mysqllock.exceptions import LockError, MySQLLockError
from celery_mysqllock.locks import MySQLLock

_PATIENCE = 30.0  # seconds for an answer


class HoldingProcess:
    """Another process that takes a lock and then says ``held``, or why not.

    Args:
        name: The lock's name.
        options: Those of ``MySQLLock``.
    """

    def __init__(self, name: str, **options: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.locks.holding"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self.pid = self._process.pid
        self._lines: Queue[str] = Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.tell(json.dumps({"name": name, **options}))

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))

    def tell(self, command: str) -> None:
        """Give it a command: check, owned, release or fork."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")

    def heard(self) -> str:
        """The next line that it says."""
        return self._lines.get(timeout=_PATIENCE)

    def ask(self, command: str) -> str:
        """Give it a command and return its answer."""
        self.tell(command)
        return self.heard()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def end(self) -> None:
        """End it if it still runs."""
        if self._process.poll() is None:
            self.signal(signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def _obey(lock: MySQLLock, command: str) -> str:
    try:
        if command == "check":
            lock.check()
        elif command == "release":
            lock.release()
        elif command == "owned":
            return str(lock.owned())
        elif command == "fork":
            return _fork()
    except LockError as error:
        return type(error).__name__
    return "ok"


def _fork() -> str:
    """Leave a child behind that outlives this process and never closes a file by itself."""
    child = os.fork()
    if child == 0:
        # Not the pipes, lest the test wait for the child.
        for number in (0, 1):
            os.close(number)
        threading.Event().wait(20)
        os._exit(0)
    return str(child)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _main() -> None:
    options = json.loads(sys.stdin.readline())
    lock = MySQLLock(options.pop("name"), on_lost=lambda _: _say("lost"), **options)
    try:
        _say("held" if lock.acquire(30) else "busy")
    except MySQLLockError as error:
        _say(type(error).__name__)
    for line in sys.stdin:
        _say(_obey(lock, line.strip()))


if __name__ == "__main__":
    _main()
