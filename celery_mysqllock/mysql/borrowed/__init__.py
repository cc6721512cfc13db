"""Connections that belong to somebody else, to write in their transactions with.

No driver and no framework is imported for them: a connection is known by what it can do.
"""

from __future__ import annotations

from typing import Any

from celery_mysqllock.exceptions import TransactionError
from celery_mysqllock.mysql.borrowed import sqlalchemy
from celery_mysqllock.mysql.borrowed.connection import Borrowed
from celery_mysqllock.mysql.borrowed.django import DjangoConnection
from celery_mysqllock.mysql.borrowed.plain import PlainConnection
from celery_mysqllock.mysql.borrowed.wrapped import driver_connection_of

__all__ = ["Borrowed", "borrow"]


def borrow(connection: Any) -> Borrowed:  # noqa: ANN401 - of a driver that need not be installed
    """Wrap a connection or session of the caller's.

    Raises:
        TransactionError: It is of no kind that is known.
    """
    if sqlalchemy.is_session(connection):
        return sqlalchemy.SQLAlchemySession(connection)
    if sqlalchemy.is_connection(connection):
        return sqlalchemy.SQLAlchemyConnection(connection)
    if DjangoConnection.knows(connection):
        return DjangoConnection(connection)
    driver_connection = driver_connection_of(connection)
    if driver_connection is not None:
        return PlainConnection(driver_connection)
    kind = type(connection)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if sqlalchemy.is_async(connection):
        raise TransactionError(
            f"A {name} cannot carry jobs: its driver is one for asyncio, and Celery sends in "
            "between two awaits. Send when it has committed, or use a Session of mysql+pymysql or "
            "mysql+mysqldb."
        )
    raise TransactionError(
        f"A {name} cannot carry jobs; it takes a connection of "
        "PyMySQL or mysqlclient, a Session or Connection of SQLAlchemy, or a connection of Django."
    )
