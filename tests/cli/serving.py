"""A command that serves HTTP, as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from celery_mysqllock.jobs import Migrations
from celery_mysqllock.mysql import Address, Session
from tests.cli.conftest import PROGRAM

if TYPE_CHECKING:
    from collections.abc import Iterator


class Site:
    """What is served.

    Args:
        database: The URL of the database it is about.
        words: The command and its options.
        keeps_errors: Whether ``errors`` tells what it wrote to stderr.
        environment: What is added to the environment.
    """

    def __init__(
        self, database: str, *words: str, keeps_errors: bool = False, **environment: str
    ) -> None:
        self._process = subprocess.Popen(
            [PROGRAM, *words, "--port", "0"],
            env={**os.environ, "MYSQLLOCK_URL": database, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if keeps_errors else None,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().split()[-1]
        self.port = urlsplit(self.url).port or 0

    def ended(self) -> int:
        """Its exit code after SIGTERM."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(30)

    def errors(self) -> str:
        """What it wrote to stderr, to its end."""
        assert self._process.stderr is not None
        return self._process.stderr.read()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        if self._process.stderr is not None:
            self._process.stderr.close()


@contextmanager
def serving(
    database: str,
    *words: str,
    migrates: bool = False,
    keeps_errors: bool = False,
    **environment: str,
) -> Iterator[Site]:
    """Serve for the block; a table may be made first."""
    if migrates:
        with Session(Address.parse(database)) as session:
            Migrations(session).apply()
    site = Site(database, *words, keeps_errors=keeps_errors, **environment)
    try:
        yield site
    finally:
        site.close()
