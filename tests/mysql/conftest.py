"""Sessions on the test's own database, and logins with few privileges."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.mysql import Address, Session

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def address(url: str) -> Address:
    return Address.parse(url)


@pytest.fixture
def session(address: Address) -> Iterator[Session]:
    with Session(address) as session:
        yield session


@pytest.fixture
def other(address: Address) -> Iterator[Session]:
    """A second session of the same user."""
    with Session(address) as session:
        yield session


@pytest.fixture
def name(address: Address) -> str:
    """A lock's name that only this test uses."""
    return f"{address.database}:a"


@pytest.fixture
def poor(address: Address, session: Session) -> Iterator[Address]:
    """A login of its own that may read the test's database and nothing else."""
    user = f"poor_{session.connection_id}"
    session.execute("CREATE USER %s@'%%' IDENTIFIED BY 'secret'", (user,))
    session.execute(f"GRANT SELECT ON `{address.database}`.* TO %s@'%%'", (user,))
    yield replace(address, user=user, password="secret")  # noqa: S106 - a throw-away user
    session.execute("DROP USER %s@'%%'", (user,))
