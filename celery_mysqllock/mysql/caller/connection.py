"""What every kind of caller's connection can do, and the check that it is on our server."""

from __future__ import annotations

import uuid
import weakref
from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from celery_mysqllock.exceptions import MySQLLockError, TransactionError
from celery_mysqllock.mysql.caller.wrapped import has_unread_rows
from celery_mysqllock.mysql.named_lock import get_lock, own_lock_name, release_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from celery_mysqllock.mysql.session import Session

_KEEP = "DO LAST_INSERT_ID(%(id)s)"
# The reason that no statement of ours can run.
_UNREAD = (
    "The connection has rows of another statement that are not read yet (SSCursor, yield_per or "
    "stream_results), and another statement would throw them away. Read them to the end first, "
    "such as with fetchall() or nextset(), or read on another connection."
)
_OUT_OF_SYNC = 2014
#: Drivers' connections, with the ids of the two sessions that were found on one server.
_TOGETHER: weakref.WeakKeyDictionary[Any, tuple[int, int, str]] = weakref.WeakKeyDictionary()


class Result(NamedTuple):
    """What a statement has done.

    Attributes:
        rows: How many rows it changed.
        row_id: The AUTO_INCREMENT of the first one that it stored, else 0.
        found: The rows that it found.
    """

    rows: int
    row_id: int
    found: list[tuple[Any, ...]]


class CallerConnection(ABC):
    """A connection of the caller's, in whose open transaction jobs are stored.

    Errors of its driver or framework are raised as they are: the caller's code that handles errors
    of its transaction expects these classes.
    """

    @contextmanager
    def block(self, enclosing: Sequence[CallerConnection] = ()) -> Iterator[None]:  # noqa: ARG002
        """Surround the caller's block; a connection that has its own transaction is left alone.

        Args:
            enclosing: The connections of the blocks round this one, in this thread and context.

        Raises:
            TransactionError: It cannot begin, or cannot be committed as a whole.
        """
        yield

    @abstractmethod
    def check(self) -> None:
        """Do nothing when what is written now is committed later, on MySQL or MariaDB.

        Raises:
            TransactionError: It would be committed at once, or on another kind of server.
        """

    @abstractmethod
    def run(self, sql: str, values: Mapping[str, object]) -> Result:
        """Run one statement with ``%(name)s`` parameters."""

    @abstractmethod
    def after_commit(self, call: Callable[[], None]) -> None:
        """Call it once what is written now has been committed."""

    @abstractmethod
    def driver_connection(self) -> Any:  # noqa: ANN401 - the driver's
        """The driver's own connection."""

    @contextmanager
    def keeping_insert_id(self) -> Iterator[None]:
        """Leave ``LAST_INSERT_ID()`` as it was before the block.

        Raises:
            TransactionError: Rows of another statement are not read yet, so nothing can run.
        """
        ((kept,),) = self._ask("SELECT LAST_INSERT_ID()", {}).found
        try:
            yield
        except MySQLLockError:
            self._ask(_KEEP, {"id": kept})
            raise
        self._ask(_KEEP, {"id": kept})

    def _ask(self, sql: str, values: Mapping[str, object]) -> Result:
        refuse_unread(self.driver_connection())
        try:
            return self.run(sql, values)
        except Exception as error:
            arguments = getattr(error, "orig", error).args
            if arguments and arguments[0] == _OUT_OF_SYNC:
                raise TransactionError(_UNREAD) from error
            raise

    def check_server(self, session: Session) -> None:
        """Do nothing when the session is on the same server.

        Names, addresses and variables do not tell: a server has many addresses, and a copied server
        has equal variables. A lock that one session takes and the other sees does tell.

        Raises:
            TransactionError: It is on another one.
        """
        driver = self.driver_connection()
        pair = (int(driver.thread_id()), session.connection_id, str(session.address))
        if _TOGETHER.get(driver) == pair:
            return
        name = own_lock_name("server", uuid.uuid4().hex)
        get_lock(session, name, 0)
        try:
            ((holder,),) = self.run("SELECT IS_USED_LOCK(%(name)s)", {"name": name}).found
        finally:
            release_lock(session, name)
        if holder is None or int(holder) != session.connection_id:
            raise TransactionError(
                f"The connection is on another server than the broker's ({session.address}), so "
                "no transaction of it can hold jobs."
            )
        _TOGETHER[driver] = pair


def refuse_unread(driver: Any) -> None:  # noqa: ANN401 - the driver's
    """Do nothing when another statement can run on a driver's connection, as far as is known.

    Raises:
        TransactionError: Rows are not read yet.
    """
    if has_unread_rows(driver):
        raise TransactionError(_UNREAD)


def run_on(connection: Any, sql: str, values: Mapping[str, object]) -> Result:  # noqa: ANN401
    """Run one statement on a cursor of a driver's or Django's connection."""
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return result_of(cursor)


def result_of(cursor: Any) -> Result:  # noqa: ANN401 - the driver's
    """What a cursor's statement has done; its rows may be dictionaries."""
    found = cursor.fetchall() if cursor.description else ()
    rows = [tuple(row.values()) if isinstance(row, dict) else tuple(row) for row in found]
    return Result(cursor.rowcount, cursor.lastrowid or 0, rows)


def with_hex_literals(sql: str, values: Mapping[str, object]) -> tuple[str, dict[str, object]]:
    """The statement, with each text beyond ASCII as a hexadecimal literal.

    So it arrives unchanged whatever the connection's character set is.
    """
    safe = dict(values)
    for name, value in values.items():
        if isinstance(value, str) and not value.isascii():
            sql = sql.replace(f"%({name})s", f"_utf8mb4 x%({name})s")
            safe[name] = value.encode().hex()
    return sql, safe
