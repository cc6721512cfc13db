"""Connections of callers, in whose transactions jobs are stored.

No driver and no framework is imported: a connection is recognised by its attributes.
"""

from __future__ import annotations

from typing import Any

from celery_mysqllock.exceptions import TransactionError
from celery_mysqllock.mysql.caller import sqlalchemy
from celery_mysqllock.mysql.caller.connection import CallerConnection
from celery_mysqllock.mysql.caller.dbapi import DBAPIConnection
from celery_mysqllock.mysql.caller.django import DjangoConnection
from celery_mysqllock.mysql.caller.wrapped import driver_connection_of
from celery_mysqllock.mysql.caller.writer import CallerWriter

__all__ = ["CallerConnection", "CallerWriter", "wrap"]


def wrap(connection: Any) -> CallerConnection:  # noqa: ANN401 - of a driver that need not be installed
    """Wrap a connection or session of the caller's.

    Raises:
        TransactionError: It is of no known kind.
    """
    if sqlalchemy.is_session(connection):
        return sqlalchemy.SQLAlchemySession(connection)
    if sqlalchemy.is_connection(connection):
        return sqlalchemy.SQLAlchemyConnection(connection)
    if DjangoConnection.knows(connection):
        return DjangoConnection(connection)
    driver_connection = driver_connection_of(connection)
    if driver_connection is not None:
        return DBAPIConnection(driver_connection)
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
