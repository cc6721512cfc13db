"""A migrated job table and a session on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.jobs import JobTable, Migrations
from celery_mysqllock.mysql import Address, Session

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def session(url: str) -> Iterator[Session]:
    with Session(Address.parse(url)) as session:
        yield session


@pytest.fixture
def has_skip_locked(session: Session) -> None:
    """Skip the test where what is locked cannot be passed over."""
    if not session.server.has_skip_locked:
        pytest.skip(f"{session.server} has no SKIP LOCKED")


@pytest.fixture(params=["skip_locked", "two_steps", "compare_and_set"])
def claim_method(request: pytest.FixtureRequest) -> str:
    """Each way to claim that the server knows."""
    if request.param != "compare_and_set":
        request.getfixturevalue("has_skip_locked")
    return str(request.param)


@pytest.fixture
def jobs(session: Session, claim_method: str) -> JobTable:
    """The job table, once for each way to claim."""
    Migrations(session).apply()
    return JobTable(session, claim_method=claim_method)
