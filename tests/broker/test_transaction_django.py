"""Transactional enqueue as a site made with Django sees it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import django
import pytest

import celery_mysqllock
from celery_mysqllock.exceptions import TransactionError
from tests.broker.app import note
from tests.broker.callers import (
    OutOfStockError,
    configure_django,
    has_mysqlclient,
    sent,
    skip_what_django_refuses,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_mysqllock.mysql import Session
    from tests.broker.listener import Listener

pytestmark = pytest.mark.usefixtures("producer_url")


@pytest.fixture
def connection(session: Session) -> Iterator[Any]:
    """``django.db.connection``, of this test's database."""
    skip_what_django_refuses("Django", session)
    driver = "mysqldb" if has_mysqlclient() else "pymysql"
    configure_django(session.address.url(), driver, ATOMIC_REQUESTS=True)
    django.setup()
    from django.db import connection, connections  # noqa: PLC0415 - it has to be configured first

    yield connection
    connection.close()
    del connections["default"]


def atomic() -> Any:
    from django.db import transaction  # noqa: PLC0415 - as above

    return transaction.atomic()


def test_a_nested_atomic_takes_its_jobs_with_it(connection: Any, session: Session) -> None:
    with atomic(), celery_mysqllock.transaction(connection):
        note.delay("outer")
        with suppress(OutOfStockError), atomic():
            note.delay("undone")
            raise OutOfStockError
        with atomic():
            note.delay("inner")
        assert sent(session) == []
    assert sent(session) == ["outer", "inner"]


def test_atomic_may_be_inside_of_the_block(connection: Any, session: Session) -> None:
    with celery_mysqllock.transaction(connection):
        for number in range(2):
            with suppress(OutOfStockError), atomic():
                note.delay(number)
                if number:
                    raise OutOfStockError
    assert sent(session) == ["0"]


def test_without_a_transaction_it_is_refused(connection: Any, session: Session) -> None:
    with (
        celery_mysqllock.transaction(connection),
        pytest.raises(TransactionError, match="ATOMIC_REQUESTS"),
    ):
        note.delay(1)
    assert sent(session) == []


def test_an_error_of_the_database_is_djangos_and_ends_the_transaction(
    connection: Any, session: Session
) -> None:
    from django.db import OperationalError  # noqa: PLC0415 - as above

    def lose_the_session() -> None:
        with atomic(), celery_mysqllock.transaction(connection):
            note.delay(1)
            session.execute("KILL %s", (connection.connection.thread_id(),))
            note.delay(2)

    with pytest.raises(OperationalError):
        lose_the_session()
    assert sent(session) == []


@pytest.mark.usefixtures("connection")
def test_a_request_that_fails_sends_nothing(session: Session) -> None:
    from django.test import Client  # noqa: PLC0415 - as above

    client = Client(raise_request_exception=False)
    assert client.get("/order/book").status_code == 200
    assert client.get("/order/nothing").status_code == 500
    assert sent(session) == ["book"]


def test_the_bell_rings_when_the_outermost_atomic_has_committed(
    connection: Any, listener: Listener
) -> None:
    listener.fall_asleep()
    with atomic(), celery_mysqllock.transaction(connection):
        # its bell goes with it, and the next one's must not
        with suppress(OutOfStockError), atomic():
            note.delay("undone")
            raise OutOfStockError
        with atomic():
            note.delay("inner")
        assert not listener.was_rung
    listener.hear()
