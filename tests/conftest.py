"""The fixtures that every test may use: one private server, and a database of its own for each."""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.exceptions import DatabaseError
from celery_mysqllock.jobs import Migrations
from celery_mysqllock.mysql import Address, Session
from devserver import DevServer, NoServer, private_server
from devserver.choice import URL_VARIABLE, choose

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from devserver import GivenServer
    from devserver.program import Program

# What MariaDB does not do by default.
_TELLING = (
    "--performance-schema=ON",
    "--performance-schema-instrument=wait/lock/metadata/sql/mdl=ON",
)


@pytest.fixture(scope="session", autouse=True)
def _programs_are_not_measured() -> None:
    """Measure pytest alone: a program that is killed reports nothing, a measured one is slow."""
    os.environ.pop("COVERAGE_PROCESS_CONFIG", None)


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give the run a temporary folder of its own, and remove it with what killed programs left."""
    folder = tmp_path_factory.mktemp("t")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setattr("tempfile.tempdir", str(folder))
        yield
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def server() -> Iterator[DevServer | GivenServer]:
    """The server of this test run; MYSQLLOCK_URL and MYSQLLOCK_SERVER choose it."""
    with private_server() as private:
        yield private


@pytest.fixture(scope="session")
def program() -> Program:
    """The server program of this test run."""
    try:
        return choose()
    except NoServer as error:
        if os.environ.get(URL_VARIABLE):
            pytest.skip(f"the tests run on {URL_VARIABLE}, and no other server is here: {error}")
        raise


@pytest.fixture(scope="module")
def start_server(program: Program) -> Iterator[Callable[..., DevServer]]:
    """Starts private servers with options of their own, which the tests of a module share."""
    with ExitStack() as servers:
        yield lambda *options: servers.enter_context(DevServer(program, options))


@pytest.fixture(scope="session")
def telling_server(server: DevServer | GivenServer) -> Iterator[DevServer | GivenServer]:
    """A server that lists locks and shows what sessions tell of themselves, as MySQL does."""
    if server.kind == "mysql" or not isinstance(server, DevServer):
        yield server
        return
    with DevServer(choose(), _TELLING) as telling:
        yield telling


@pytest.fixture
def url(server: DevServer | GivenServer) -> Iterator[str]:
    """The URL of an empty database that this test alone uses."""
    with _database(server) as url:
        yield url


@pytest.fixture
def telling_url(telling_server: DevServer | GivenServer) -> Iterator[str]:
    """As ``url``, on a server that lists locks and shows what sessions tell of themselves."""
    with _database(telling_server) as url:
        yield url


@contextmanager
def _database(server: DevServer | GivenServer) -> Iterator[str]:
    database = server.create_database()
    yield database
    _end_sessions(database)
    server.drop_database(Address.parse(database).database)


@pytest.fixture
def session(url: str) -> Iterator[Session]:
    """A session on a migrated table."""
    with Session(Address.parse(url)) as session:
        Migrations(session).apply()
        yield session


def _end_sessions(url: str) -> None:
    """End what the sessions of killed programs are at; the server would wait for it to end."""
    with Session(Address.parse(url)) as session:
        for connection_id in session.query(
            "SELECT id FROM information_schema.processlist WHERE db = DATABASE() "
            "AND id <> CONNECTION_ID()"
        ):
            with suppress(DatabaseError):  # it has just ended
                session.execute("KILL %s", connection_id)
