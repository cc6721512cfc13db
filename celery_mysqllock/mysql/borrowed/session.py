"""Lets the statements on our tables run on a borrowed connection, inside of its transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery_mysqllock.exceptions import DuplicateKey
from celery_mysqllock.mysql.borrowed.connection import in_ascii
from celery_mysqllock.mysql.driver import Inserted
from celery_mysqllock.mysql.errors import is_about_ids, is_duplicate_key
from celery_mysqllock.mysql.session import Session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celery_mysqllock.mysql.borrowed.connection import Borrowed
    from celery_mysqllock.mysql.server import Server


class BorrowedSession(Session):
    """A session that is somebody else's: it begins, commits and closes nothing.

    Errors are those of the caller's driver, as they are; so nothing is tried again in a
    transaction that the server may have rolled back.

    Args:
        borrowed: The connection.
        own: An open session of ours on the same server, for what is no part of the transaction.
    """

    def __init__(self, borrowed: Borrowed, own: Session) -> None:
        super().__init__(own.address)
        self._borrowed = borrowed
        self._own = own
        self._found_own = True

    @property
    def server(self) -> Server:  # noqa: D102 - as in Session
        return self._own.server

    @property
    def is_open(self) -> bool:  # noqa: D102 - as in Session
        return True

    def insert(self, sql: str, values: Mapping[str, object]) -> Inserted:
        """Run the INSERT, and not what is behind it: whom to wake is asked after the commit.

        Raises:
            MessageTooLarge: The server would not read so large a statement, and would end the
                session and the transaction for it; nothing was sent.
            DuplicateKey: A row has this value of a unique index; the transaction goes on.
        """
        statement, safe = in_ascii(sql.partition(";")[0], values)
        self._own.check_size(statement, safe)
        try:
            done = self._borrowed.run(statement, safe)
        except Exception as error:
            if is_duplicate_key(error) and not is_about_ids(error):
                raise DuplicateKey(str(error)) from error
            raise
        return Inserted(done.rows, done.row_id, None)

    def query(self, sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:  # noqa: ANN401
        """Find what is committed, and where that is nothing, what the transaction has written.

        The first in a session of ours: the transaction's snapshot may be older.
        """
        found = self._own.query(sql, parameters)
        self._found_own = bool(found)
        if found:
            return found
        rows = self._borrowed.run(*in_ascii(sql, parameters or {})).found
        return [tuple(_as_text(value) for value in row) for row in rows]

    def execute(self, sql: str, parameters: Any = None) -> int:  # noqa: ANN401
        """Change what ``query`` has found: at once, or with the transaction where it wrote that."""
        if self._found_own:
            return self._own.execute(sql, parameters)
        return self._borrowed.run(*in_ascii(sql, parameters or {})).rows


def _as_text(value: Any) -> Any:  # noqa: ANN401 - of a row
    """What a driver gives that was told to decode no text (``use_unicode=False``)."""
    return value.decode() if isinstance(value, bytes) else value
