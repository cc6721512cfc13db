"""Locks of both kinds for the contract, and processes that hold locks."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from celery_mysqllock.locks import MySQLLock, new_lock
from celery_mysqllock.mysql import Address, Session
from tests.locks.holding import HoldingProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeAlias

    from celery_mysqllock.locks import MemoryLock
    from devserver import DevServer, GivenServer

    Option: TypeAlias = Any  # one of those of MySQLLock

    class MakeLock(Protocol):
        """Makes a lock that only this test uses."""

        def __call__(self, name: str = "it", **options: Option) -> MySQLLock | MemoryLock: ...

    class MakeMySQLLock(Protocol):
        """Makes a lock on the test's database."""

        def __call__(self, name: str = "it", **options: Option) -> MySQLLock: ...

    class Hold(Protocol):
        """Starts a process that holds a lock."""

        def __call__(self, name: str = "it", **options: Option) -> HoldingProcess: ...


_numbers = itertools.count()


@pytest.fixture(params=["mysql", "memory"])
def make(request: pytest.FixtureRequest) -> MakeLock:
    """Makes locks of one kind; the test runs once for each kind."""
    return _maker(request, "url")


@pytest.fixture(params=["mysql", "memory"])
def make_telling(request: pytest.FixtureRequest) -> MakeLock:
    """As ``make``, on a server that shows what sessions tell of themselves."""
    return _maker(request, "telling_url")


def _maker(request: pytest.FixtureRequest, fixture: str) -> MakeLock:
    if request.param == "mysql":
        url, namespace = request.getfixturevalue(fixture), None
    else:
        url, namespace = "memory://", f"test{next(_numbers)}"

    def make(name: str = "it", **options: Option) -> MySQLLock | MemoryLock:
        return new_lock(name, url=url, namespace=namespace, session_timeout=3, **options)

    return make


@pytest.fixture
def mysql_lock(url: str) -> MakeMySQLLock:
    """Makes locks on the test's database, of a session timeout of three seconds."""

    def make(name: str = "it", **options: Option) -> MySQLLock:
        return MySQLLock(name, **{"url": url, "session_timeout": 3, **options})

    return make


@pytest.fixture
def hold(start: Hold) -> Hold:
    """Starts processes that hold a lock; they end with the test."""

    def hold(name: str = "it", **options: Option) -> HoldingProcess:
        process = start(name, **options)
        assert process.heard() == "held"
        return process

    return hold


@pytest.fixture
def start(url: str) -> Iterator[Hold]:
    """Starts processes that take a lock; they end with the test."""
    processes: list[HoldingProcess] = []

    def start(name: str = "it", **options: Option) -> HoldingProcess:
        process = HoldingProcess(name, **{"url": url, "session_timeout": 3, **options})
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.end()


@pytest.fixture
def session(url: str) -> Iterator[Session]:
    """A session with the server that holds nothing."""
    with Session(Address.parse(url)) as session:
        yield session


@pytest.fixture
def nobody(session: Session, url: str) -> Iterator[Session]:
    """A session of a user without a privilege beyond its database, who may read no list."""
    address = replace(Address.parse(url), user="nobody", password="none")  # noqa: S106 - a test's
    session.execute("CREATE USER nobody@'%%' IDENTIFIED BY 'none'", ())
    try:
        session.execute(f"GRANT SELECT ON `{address.database}`.* TO nobody@'%'")
        with Session(address) as other:
            yield other
    finally:
        session.execute("DROP USER nobody@'%%'", ())


@pytest.fixture
def own_server(server: DevServer | GivenServer) -> DevServer | GivenServer:
    """The server, for a test that stops or restarts it."""
    if not server.private:
        pytest.skip("the server of MYSQLLOCK_URL is not ours to restart")
    return server
