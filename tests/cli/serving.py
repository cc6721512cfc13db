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
        environment: What is added to the environment.
    """

    def __init__(self, database: str, *words: str, **environment: str) -> None:
        self._process = subprocess.Popen(
            [PROGRAM, *words, "--port", "0"],
            env={**os.environ, "MYSQLLOCK_URL": database, **environment},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().split()[-1]
        self.port = urlsplit(self.url).port

    def ended(self) -> int:
        """Its exit code after SIGTERM."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(30)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


@contextmanager
def serving(
    database: str, *words: str, migrates: bool = False, **environment: str
) -> Iterator[Site]:
    """Serve for the block; a table may be made first."""
    if migrates:
        with Session(Address.parse(database)) as session:
            Migrations(session).apply()
    site = Site(database, *words, **environment)
    try:
        yield site
    finally:
        site.close()
