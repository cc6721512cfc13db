"""kombu's own integration suite against the job table: ``make conformance``.

Its name keeps it out of ``make test``: the suite is downloaded, and half of it is spent asleep.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from kombu import Connection

from celery_mysqllock.jobs import Migrations
from celery_mysqllock.mysql import Address, Session
from tests.conformance.sdist import load_kombu_suite

if TYPE_CHECKING:
    from collections.abc import Iterator

suite = load_kombu_suite()
NOWHERE = "mysql://nobody@127.0.0.1:1/nothing"


class EagerConnection(Connection):
    """Delivers all that is there in one call, as py-amqp does and virtual transports do not.

    For them, upstream runs the two tests of priorities with more calls.
    """

    def drain_events(self, **options: Any) -> None:
        super().drain_events(**options)
        with contextlib.suppress(TimeoutError):
            while True:
                super().drain_events(timeout=0.1)


@pytest.fixture
def migrated(url: str) -> str:
    """The URL of a database with an empty job table: some tests leave messages behind."""
    with Session(Address.parse(url)) as session:
        Migrations(session).apply()
    return url


@pytest.fixture
def connection(migrated: str) -> Iterator[Connection]:
    with Connection(migrated) as connection:
        yield connection


@pytest.fixture
def invalid_connection() -> Connection:
    return Connection(NOWHERE)


@pytest.fixture
def failover_connection(migrated: str) -> Iterator[Connection]:
    with Connection(f"{NOWHERE};{migrated}") as connection:
        yield connection


class TestBasicFunctionality(suite.BasicFunctionality):  # type: ignore[name-defined]
    pass


class TestExchangeTypes(suite.BaseExchangeTypes):  # type: ignore[name-defined]
    pass


class TestTimeToLive(suite.BaseTimeToLive):  # type: ignore[name-defined]
    pass


class TestPriority(suite.BasePriority):  # type: ignore[name-defined]
    @pytest.fixture
    def connection(self, migrated: str) -> Iterator[Connection]:
        with EagerConnection(migrated) as connection:
            yield connection


class TestMessage(suite.BaseMessage):  # type: ignore[name-defined]
    pass


class TestEventLoop(suite.BaseEventLoop):  # type: ignore[name-defined]
    pass


class TestFailover(suite.BaseFailover):  # type: ignore[name-defined]
    pass
