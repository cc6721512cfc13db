"""The owner's end of the watchdog: starts one mysqld, signals it and waits for its end."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
import weakref
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from devserver.errors import ServerFailed

if TYPE_CHECKING:
    import signal

_CLOSED = "The private server was closed, or belongs to the process that this one was forked from."
_GONE = "The watchdog of the private server is gone, and the server with it."


class Guard:
    """One watchdog process, see `watchdog`, and through it at most one mysqld at a time.

    Args:
        folder: What the watchdog removes when it ends; it has to exist.
    """

    def __init__(self, folder: Path) -> None:
        script = Path(__file__).with_name("watchdog.py")
        # -I: the working directory and PYTHON* variables have no effect on it.
        # A session of its own: Ctrl-C and signals to the owner's group do not reach it.
        self._process = subprocess.Popen(  # noqa: S603 - our own script
            [sys.executable, "-I", str(script), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        self._orders: IO[bytes] = _pipe(self._process.stdin)
        self._facts: IO[bytes] = _pipe(self._process.stdout)
        self._pending = b""
        self._owner = os.getpid()
        self._code: int | None = 0  # how the last mysqld ended, None while one runs
        _all.add(self)

    @property
    def ours(self) -> bool:
        """False in a forked child: the server belongs to the parent."""
        return os.getpid() == self._owner

    def start(self, command: list[str], environment: dict[str, str], cwd: Path) -> int:
        """Start mysqld in `cwd`, with `environment` added to this one's; return its process id."""
        self._order({"start": command, "env": environment, "cwd": str(cwd)})
        fact = self._await("started", None)
        self._code = None
        return int(fact["started"])

    def signal(self, number: signal.Signals, timeout: float | None = None) -> bool:
        """Send a signal and wait until mysqld has ended; False when `timeout` seconds pass first.

        Returns at once when none is running.
        """
        if self.ended() is not None:
            return True
        self._order({"signal": int(number)})
        return self.ended(timeout) is not None

    def ended(self, timeout: float | None = 0.0) -> int | None:
        """Return how mysqld ended (a return code, or minus a signal), None while it runs.

        Args:
            timeout: Seconds to wait for it; None waits for ever.
        """
        if self._code is None:
            self._code = self._await("ended", timeout).get("ended")
        return self._code

    def close(self) -> None:
        """End mysqld at once, remove the folder, and return when both are done.

        May be called twice; does nothing in a forked child.
        """
        if not self.ours:
            return
        self._orders.close()
        self._process.wait()
        self._facts.close()
        _all.discard(self)

    def detach_after_fork(self) -> None:
        """Close the pipes, which belong to the parent, in a forked child."""
        self._orders.close()
        self._facts.close()

    def _order(self, order: dict[str, Any]) -> None:
        if self._orders.closed:
            raise ServerFailed(_CLOSED)
        try:
            rest = json.dumps(order).encode() + b"\n"
            while rest:
                rest = rest[os.write(self._orders.fileno(), rest) :]
        except BrokenPipeError as error:
            raise ServerFailed(_GONE) from error

    def _await(self, name: str, timeout: float | None) -> dict[str, int]:
        if self._facts.closed:
            raise ServerFailed(_CLOSED)
        deadline = None if timeout is None else time.monotonic() + timeout
        while b"\n" not in self._pending:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([self._facts], [], [], left)[0]:
                return {}
            data = os.read(self._facts.fileno(), 4096)
            if not data:
                raise ServerFailed(_GONE)
            self._pending += data
        line, self._pending = self._pending.split(b"\n", 1)
        fact: dict[str, int] = json.loads(line)
        if name not in fact:
            raise ServerFailed(f"The watchdog said {fact} where {name!r} was expected.")
        return fact


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise ServerFailed("The watchdog has no pipe.")
    return pipe


_all: weakref.WeakSet[Guard] = weakref.WeakSet()


def _in_forked_child() -> None:
    # A child may outlive the owner, and must not keep its pipe open.
    for guard in list(_all):
        guard.detach_after_fork()


os.register_at_fork(after_in_child=_in_forked_child)
