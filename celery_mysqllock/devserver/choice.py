"""Which server it is going to be: a given one, an installed one, or one from packages."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from celery_mysqllock.devserver import packages
from celery_mysqllock.devserver.errors import NoServer
from celery_mysqllock.devserver.given import GivenServer
from celery_mysqllock.devserver.program import KINDS, MARIADB, Program, installed
from celery_mysqllock.devserver.progress import say
from celery_mysqllock.devserver.server import DevServer
from celery_mysqllock.exceptions import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator

URL_VARIABLE = "MYSQLLOCK_URL"
KIND_VARIABLE = "MYSQLLOCK_SERVER"

_CHOICES = f"""Choose one:
  - name a server that is running:  {URL_VARIABLE}=mysql://user:password@host:3306/database
  - start one in a container:       docker compose up -d
  - install one:                    apt install mariadb-server-core
                                    dnf install mariadb-server
                                    brew install mariadb"""


@contextlib.contextmanager
def private_server(kind: str | None = None) -> Iterator[DevServer | GivenServer]:
    """Have a server for demo, tests or benchmarks; see the package for the order of choices.

    Args:
        kind: "mariadb" or "mysql"; left out, MYSQLLOCK_SERVER decides, then what is installed.

    Raises:
        SettingsError: The kind is unknown, or MYSQLLOCK_URL is of no use or of the other kind.
        DatabaseError: MYSQLLOCK_URL names a server that nobody can log in to.
        NoServer: There is none, and none can be fetched; the message names the choices.
        ServerFailed: The server did not start.
    """
    wanted = _wanted(kind)
    url = os.environ.get(URL_VARIABLE)
    with given(url, wanted) if url else DevServer(choose(wanted)) as server:
        yield server


def given(url: str, wanted: str | None) -> GivenServer:
    """Return the server behind `url`, which has to be of the wanted kind, if any."""
    server = GivenServer(url)
    if wanted not in (None, server.kind):
        raise SettingsError(
            f"{URL_VARIABLE} names a server of kind {server.kind}, but {wanted} is asked for "
            f"({KIND_VARIABLE} or --server). Drop one of the two."
        )
    return server


def choose(wanted: str | None) -> Program:
    """Return the program to run: installed here, or else unpacked from packages."""
    for program in installed():
        if wanted in (None, program.kind):
            say(f"using {program.argv[0]} ({program.version})")
            return program
    kind = wanted or MARIADB
    if not packages.available(kind):
        raise NoServer(f"No {wanted or 'MariaDB or MySQL'} server is installed here. {_CHOICES}")
    try:
        return packages.fetched(kind)
    except NoServer as error:
        raise NoServer(f"{error}\n{_CHOICES}") from error


def _wanted(kind: str | None) -> str | None:
    wanted = kind or os.environ.get(KIND_VARIABLE) or None
    if wanted not in (None, *KINDS):
        raise SettingsError(
            f"{wanted!r} is no kind of server ({KIND_VARIABLE} or --server): "
            f"it has to be {' or '.join(KINDS)}."
        )
    return wanted
