"""A plain connection of PyMySQL or mysqlclient: the block is the transaction."""

from __future__ import annotations

import weakref
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from celery_mysqllock.exceptions import TransactionError
from celery_mysqllock.mysql.borrowed.connection import Answer, Borrowed, answer_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

# The drivers call the parameter differently.
_ON, _OFF = True, False
_DRIVERS = frozenset({"pymysql", "MySQLdb"})
#: The blocks that commit, by the driver's connection.
_OUTERMOST: weakref.WeakKeyDictionary[Any, PlainConnection] = weakref.WeakKeyDictionary()


class PlainConnection(Borrowed):
    """A driver's connection, whose commit nobody else tells of: so the block does it.

    Autocommit is off in the block. A block inside of another on the same connection is a
    savepoint.

    Attributes:
        calls: What is to be called after the commit, where this is the outermost block.
    """

    def __init__(self, connection: Any) -> None:  # noqa: ANN401 - the driver's
        self._connection = connection
        self.calls: list[Callable[[], None]] = []
        self._savepoints = 0

    @staticmethod
    def knows(connection: object) -> bool:
        """Whether this is one."""
        packages = {kind.__module__.partition(".")[0] for kind in type(connection).__mro__}
        return bool(packages & _DRIVERS) and hasattr(connection, "get_autocommit")

    @contextmanager
    def block(self) -> Iterator[None]:
        """Commit at the block's end, or roll back when an exception leaves it."""
        connection = self._connection
        outermost = _OUTERMOST.get(connection)
        if outermost is not None:
            with outermost.savepoint():
                yield
            return
        _OUTERMOST[connection] = self
        try:
            with self._autocommit_off():
                yield
                connection.commit()
        finally:
            _OUTERMOST.pop(connection, None)
        for call in self.calls:
            call()

    @contextmanager
    def _autocommit_off(self) -> Iterator[None]:
        connection = self._connection
        was_on = connection.get_autocommit()
        if was_on:
            connection.autocommit(_OFF)
        try:
            yield
        except BaseException:
            # A connection that cannot even roll back keeps autocommit off: to switch it on would
            # commit. The server rolls back when it is closed.
            with suppress(Exception):
                connection.rollback()
                if was_on:
                    connection.autocommit(_ON)
            raise
        if was_on:
            connection.autocommit(_ON)

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Undo what the block has written, and no more, when an exception leaves it."""
        self._savepoints += 1
        name = f"celery_mysqllock_{self._savepoints}"
        self.run(f"SAVEPOINT {name}", {})
        try:
            yield
        except BaseException:
            # it is gone where the server has rolled all of the transaction back
            with suppress(Exception):
                self.run(f"ROLLBACK TO SAVEPOINT {name}", {})
            raise
        self.run(f"RELEASE SAVEPOINT {name}", {})

    def check(self) -> None:  # noqa: D102 - as in Borrowed
        if self._connection.get_autocommit():
            raise TransactionError(
                "Autocommit was switched on inside of the transaction: a job would be committed at "
                "once. Leave it off in the block."
            )

    def run(self, sql: str, values: Mapping[str, object]) -> Answer:  # noqa: D102
        with self._connection.cursor() as cursor:
            cursor.execute(sql, values)
            return answer_of(cursor)

    def after_commit(self, call: Callable[[], None]) -> None:  # noqa: D102
        calls = _OUTERMOST[self._connection].calls
        if call not in calls:
            calls.append(call)

    def driver_connection(self) -> Any:  # noqa: ANN401, D102 - as in Borrowed
        return self._connection
