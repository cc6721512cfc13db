"""The fixtures that every test may use: one private server, and a database of its own for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.devserver import private_server
from celery_mysqllock.mysql import Address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_mysqllock.devserver import DevServer, GivenServer


@pytest.fixture(scope="session")
def server() -> Iterator[DevServer | GivenServer]:
    """The server of this test run; MYSQLLOCK_URL and MYSQLLOCK_SERVER choose it."""
    with private_server() as private:
        yield private


@pytest.fixture
def url(server: DevServer | GivenServer) -> Iterator[str]:
    """The URL of an empty database that this test alone uses."""
    database = server.create_database()
    yield database
    server.drop_database(Address.parse(database).database)
