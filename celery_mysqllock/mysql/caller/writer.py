"""Runs statements on our tables on a caller's connection, in its transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery_mysqllock.exceptions import DuplicateKey
from celery_mysqllock.mysql.caller.connection import with_hex_literals
from celery_mysqllock.mysql.driver import Inserted
from celery_mysqllock.mysql.errors import is_about_ids, is_duplicate_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celery_mysqllock.mysql.caller.connection import CallerConnection
    from celery_mysqllock.mysql.session import Session


class CallerWriter:
    """Stores and changes rows in the transaction of a caller's connection.

    Errors are those of the caller's driver, as they are; so nothing is tried again in a transaction
    that the server may have rolled back.

    Args:
        caller: The connection.
        session: An open session of ours on the same server, which knows its limits.
    """

    def __init__(self, caller: CallerConnection, session: Session) -> None:
        self._caller = caller
        self._session = session

    def insert(self, sql: str, values: Mapping[str, object], *, then: str) -> Inserted:  # noqa: ARG002
        """Run an INSERT.

        Args:
            sql: The statement, with ``%(name)s`` for values.
            values: The values.
            then: Not run: it asks whom to wake, which is asked after the commit.

        Raises:
            MessageTooLarge: The server would not read so large a statement, and would end the
                session and the transaction for it; nothing was sent.
            DuplicateKey: A row has this value of a unique index; the transaction goes on.
        """
        statement, safe = with_hex_literals(sql, values)
        self._session.check_size(statement, safe)
        try:
            done = self._caller.run(statement, safe)
        except Exception as error:
            if is_duplicate_key(error) and not is_about_ids(error):
                raise DuplicateKey(str(error)) from error
            raise
        return Inserted(done.rows, done.row_id, None)

    def query(self, sql: str, parameters: Mapping[str, object]) -> list[tuple[Any, ...]]:
        """Run a statement and return its rows."""
        rows = self._caller.run(*with_hex_literals(sql, parameters)).found
        return [tuple(_as_text(value) for value in row) for row in rows]

    def execute(self, sql: str, parameters: Mapping[str, object]) -> int:
        """Run a statement and return how many rows it changed."""
        return self._caller.run(*with_hex_literals(sql, parameters)).rows


def _as_text(value: Any) -> Any:  # noqa: ANN401 - of a row
    """What a driver gives that was told to decode no text (``use_unicode=False``)."""
    return value.decode() if isinstance(value, bytes) else value
