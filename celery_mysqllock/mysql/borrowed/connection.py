"""What every kind of borrowed connection can do, and the proof that it is on our server."""

from __future__ import annotations

import uuid
import weakref
from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from celery_mysqllock.exceptions import TransactionError
from celery_mysqllock.mysql.named_lock import get_lock, own_lock_name, release_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from celery_mysqllock.mysql.session import Session

#: Each driver's connection, and the numbers of the two sessions that were found on one server.
_TOGETHER: weakref.WeakKeyDictionary[Any, tuple[int, int, str]] = weakref.WeakKeyDictionary()


class Answer(NamedTuple):
    """What a statement has done.

    Attributes:
        rows: How many rows it changed.
        row_id: The AUTO_INCREMENT of the first one that it stored, else 0.
        found: The rows that it found.
    """

    rows: int
    row_id: int
    found: list[tuple[Any, ...]]


class Borrowed(ABC):
    """A connection that belongs to somebody else, whose open transaction is to be written in.

    An error of its driver or framework goes to the caller as it is: who handles the errors of
    that transaction knows them by these classes.
    """

    @contextmanager
    def block(self) -> Iterator[None]:
        """Surround the caller's block; what has a transaction of its own is left alone."""
        yield

    @abstractmethod
    def check(self) -> None:
        """Do nothing when what is written now is committed later, on MySQL or MariaDB.

        Raises:
            TransactionError: It would be committed at once, or is no such server's.
        """

    @abstractmethod
    def run(self, sql: str, values: Mapping[str, object]) -> Answer:
        """Run one statement with ``%(name)s`` parameters."""

    @abstractmethod
    def after_commit(self, call: Callable[[], None]) -> None:
        """Have it called once what is written now has been committed."""

    @abstractmethod
    def driver_connection(self) -> Any:  # noqa: ANN401 - the driver's
        """The driver's own connection."""

    def check_server(self, session: Session) -> None:
        """Do nothing when the session is on the same server.

        Names, addresses and variables do not tell: a server has many of the first, and a copied
        one has equal variables. A lock that one session takes and the other sees does.

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


def answer_of(cursor: Any) -> Answer:  # noqa: ANN401 - the driver's
    """What a cursor's statement has done; its rows may be dictionaries."""
    found = cursor.fetchall() if cursor.description else ()
    rows = [tuple(row.values()) if isinstance(row, dict) else tuple(row) for row in found]
    return Answer(cursor.rowcount, cursor.lastrowid or 0, rows)


def in_ascii(sql: str, values: Mapping[str, object]) -> tuple[str, dict[str, object]]:
    """The statement, with each text beyond ASCII as hexadecimal digits.

    So it arrives whatever character set the connection has.
    """
    safe = dict(values)
    for name, value in values.items():
        if isinstance(value, str) and not value.isascii():
            sql = sql.replace(f"%({name})s", f"_utf8mb4 x%({name})s")
            safe[name] = value.encode().hex()
    return sql, safe
