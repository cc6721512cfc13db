"""Chooses the server: a given one, an installed one, or one from packages."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from celery_mysqllock.exceptions import SettingsError
from devserver import packages
from devserver.errors import NoServer
from devserver.given import GivenServer
from devserver.program import MARIADB, VARIABLE, Program, Wanted, installed
from devserver.progress import say
from devserver.server import DevServer

if TYPE_CHECKING:
    from collections.abc import Iterator

URL_VARIABLE = "MYSQLLOCK_URL"

_CHOICES = f"""Choose one:
  - name a server that is running:  {URL_VARIABLE}=mysql://user:password@host:3306/database
  - start one in a container:       docker compose up -d
  - install one:                    apt install mariadb-server-core
                                    dnf install mariadb-server
                                    brew install mariadb"""


@contextlib.contextmanager
def private_server(asked: str | None = None) -> Iterator[DevServer | GivenServer]:
    """Run a server for demo, tests or benchmarks; the package says in which order it is chosen.

    Args:
        asked: "mariadb", "mysql", or a release of one of them, such as "mariadb-11.8"; left out,
            MYSQLLOCK_SERVER decides, then what is installed.

    Raises:
        SettingsError: The kind is unknown; MYSQLLOCK_URL is malformed, or names a server of
            another kind.
        DatabaseError: The login to the server of MYSQLLOCK_URL fails.
        NoServer: There is none, and none can be fetched; the message names the choices.
        ServerFailed: The server did not start.
    """
    wanted = Wanted.parse(asked or os.environ.get(VARIABLE))
    url = os.environ.get(URL_VARIABLE)
    with given(url, wanted) if url else DevServer(_chosen(wanted)) as server:
        yield server


def given(url: str, wanted: Wanted) -> GivenServer:
    """Return the server behind `url`, which must match `wanted`."""
    server = GivenServer(url)
    if not wanted.suits(server.kind, server.version):
        raise SettingsError(
            f"{URL_VARIABLE} names a server of kind {server.kind} {server.version}, but {wanted} "
            f"is asked for ({VARIABLE} or --server). Drop one of the two."
        )
    return server


def choose(asked: str | None = None) -> Program:
    """Return the program to run: installed here, or else unpacked from packages.

    Args:
        asked: As for `private_server`.

    Raises:
        SettingsError: The kind is unknown.
        NoServer: There is none, and none can be fetched.
    """
    return _chosen(Wanted.parse(asked or os.environ.get(VARIABLE)))


def _chosen(wanted: Wanted) -> Program:
    for program in installed():
        if wanted.suits(program.kind, program.number):
            say(f"using {program.argv[0]} ({program.version})")
            return program
    if not packages.available():
        raise NoServer(f"No {wanted} server is installed here. {_CHOICES}")
    try:
        return packages.fetched(wanted.kind or MARIADB, wanted.release)
    except NoServer as error:
        raise NoServer(f"{error}\n{_CHOICES}") from error
