"""A connection of Django: ``transaction.atomic`` is the transaction, ``on_commit`` reports it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery_mysqllock.exceptions import TransactionError
from celery_mysqllock.mysql.caller.connection import CallerConnection, Result, run_on
from celery_mysqllock.mysql.caller.wrapped import driver_connection_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class DjangoConnection(CallerConnection):
    """``django.db.connection`` or one of ``django.db.connections``."""

    def __init__(self, connection: Any) -> None:  # noqa: ANN401 - Django's
        self._connection = connection

    @staticmethod
    def knows(connection: object) -> bool:
        """Whether this is one, or Django's proxy for the current thread's."""
        return all(hasattr(connection, name) for name in ("in_atomic_block", "on_commit", "vendor"))

    def check(self) -> None:  # noqa: D102 - as in CallerConnection
        if self._connection.vendor != "mysql":
            raise TransactionError(
                f"Django's connection {self._connection.alias!r} is one of "
                f"{self._connection.vendor}; jobs are stored in MySQL or MariaDB."
            )
        if not self._connection.in_atomic_block:
            raise TransactionError(
                f"Django's connection {self._connection.alias!r} is in no transaction: a job would "
                "be committed at once. Open one with django.db.transaction.atomic(), or set "
                "ATOMIC_REQUESTS."
            )

    def run(self, sql: str, values: Mapping[str, object]) -> Result:  # noqa: D102
        return run_on(self._connection, sql, values)

    def after_commit(self, call: Callable[[], None]) -> None:  # noqa: D102
        # each time: Django drops what was registered in a savepoint when that is rolled back
        self._connection.on_commit(call)

    def driver_connection(self) -> Any:  # noqa: ANN401, D102 - as in CallerConnection
        self._connection.ensure_connection()
        return driver_connection_of(self._connection.connection) or self._connection.connection
