"""The command `python -m devserver`: runs a private server until the command is ended."""

from __future__ import annotations

import argparse
import os
import select
import signal
import stat
import sys
from typing import TYPE_CHECKING, NoReturn

from celery_mysqllock.exceptions import MySQLLockError
from devserver import private_server
from devserver.program import VARIABLE
from devserver.progress import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devserver import DevServer, GivenServer

_CHECK = 0.5  # seconds between two checks that the parent and the server are alive


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the URL of a server on stdout and keep it running; return the exit code.

    It ends on SIGTERM, SIGINT or SIGHUP, when its parent process ends, and when its stdin is a
    pipe that the other side closes.
    """
    parser = argparse.ArgumentParser(
        prog="python -m devserver",
        description="Print the mysql:// URL of a throw-away server, which runs until this command "
        "ends: by Ctrl-C, with the parent process, or when stdin is a pipe and is closed. "
        "MYSQLLOCK_URL names a server to use instead of a new one.",
    )
    parser.add_argument(
        "--server", help=f"mariadb, mysql, or a release: mariadb-11.8; default: {VARIABLE}"
    )
    asked = parser.parse_args(arguments).server
    life = Life()
    try:
        with private_server(asked) as server:
            say(f"{server.kind} is ready; it ends with this process")
            print(server.url, flush=True)  # noqa: T201 - the one line that callers read
            life.wait(server)
    except Ended as why:
        say(f"ends: {why}")
    except (MySQLLockError, OSError) as error:  # OSError: a full disk, for one
        say(str(error))
        return 1
    return 0


class Ended(BaseException):
    """The command has to end; the message says why."""


class Life:
    """The life of this process: until a signal, the end of its parent, or the end of its stdin.

    Once it is made, a signal raises `Ended` in the main thread, wherever that is.
    """

    def __init__(self) -> None:
        self._parent = os.getppid()
        self._stdin = _open_pipe()
        signal.signal(signal.SIGINT, self._on_signal)
        signal.signal(signal.SIGTERM, self._on_signal)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup sets it
            signal.signal(signal.SIGHUP, self._on_signal)

    def wait(self, server: DevServer | GivenServer) -> None:
        """Wait until this process has to end.

        Raises:
            Ended: Always, unless the server ends first.
            ServerFailed: The server ended.
        """
        while True:
            if os.getppid() != self._parent:
                raise Ended("the parent process is gone")
            if select.select(self._stdin, [], [], _CHECK)[0] and not os.read(0, 4096):
                raise Ended("stdin was closed")
            server.check()

    @staticmethod
    def _on_signal(number: int, _frame: object) -> NoReturn:
        for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(other, signal.SIG_IGN)  # nothing interrupts the clean-up
        raise Ended(signal.Signals(number).name)


def _open_pipe() -> list[int]:
    """Return [0] when stdin is a pipe whose other end is still open, else nothing."""
    try:
        mode = os.fstat(0).st_mode
    except OSError:  # started without a stdin
        return []
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return []
    poll = select.poll()
    poll.register(0, select.POLLIN)
    closed = any(event & select.POLLHUP for _, event in poll.poll(0))
    return [] if closed else [0]


if __name__ == "__main__":
    sys.exit(main())
