"""A connection of PyMySQL or mysqlclient: the block is the transaction."""

from __future__ import annotations

import weakref
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from celery_mysqllock.exceptions import TransactionError
from celery_mysqllock.mysql.caller.connection import CallerConnection, Result, refuse_unread, run_on

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

# The drivers call the parameter differently.
_ON, _OFF = True, False
#: The blocks that commit, by the driver's connection.
_OUTERMOST: weakref.WeakKeyDictionary[Any, DBAPIConnection] = weakref.WeakKeyDictionary()


class DBAPIConnection(CallerConnection):
    """A driver's connection. It does not tell of its commits, so the block commits.

    Autocommit is off in the block. A block inside another on the same connection is a savepoint.

    Args:
        connection: The driver's own, without the wrapper of a pool or tracer.

    Attributes:
        calls: The functions to call after the commit, if this is the outermost block.
    """

    def __init__(self, connection: Any) -> None:  # noqa: ANN401 - the driver's
        self._connection = connection
        self.calls: list[Callable[[], None]] = []
        self._savepoints = 0
        self._open_savepoints = 0
        self._session_id = 0

    @contextmanager
    def block(self, enclosing: Sequence[CallerConnection] = ()) -> Iterator[None]:
        """Commit at the block's end, or roll back when an exception leaves it.

        Args:
            enclosing: As in ``CallerConnection``.

        Raises:
            TransactionError: Another thread or asyncio task has a block open on the connection,
                rows are not read yet, or the connection is another session at the end.
        """
        connection = self._connection
        refuse_unread(connection)
        outermost = _OUTERMOST.setdefault(connection, self)
        if outermost is not self:
            if outermost not in enclosing:
                raise TransactionError(
                    "Another thread, greenlet or asyncio task has a block open on this very "
                    "connection, and one connection has one transaction at a time. Give each a "
                    "connection of its own."
                )
            with outermost.savepoint():
                yield
            return
        try:
            with self._autocommit_off():
                yield
                self._check_whole()
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
        self._session_id = connection.thread_id()
        try:
            yield
        except BaseException:
            try:
                # mysqlclient would refuse it while rows are unread
                if hasattr(connection, "discard_result"):
                    connection.discard_result()
                connection.rollback()
            except Exception:  # noqa: BLE001 - the block's own error is the one to see
                self._close()
            else:
                self._switch_on(was_on=was_on)
            raise
        self._switch_on(was_on=was_on)

    def _switch_on(self, *, was_on: bool) -> None:
        """Set autocommit as it was; the outcome of the transaction does not change."""
        if was_on:
            try:
                self._connection.autocommit(_ON)
            except Exception:  # noqa: BLE001 - its session is gone; the next statement raises that
                self._close()

    def _close(self) -> None:
        """End the session, so that nothing can be committed later by mistake."""
        with suppress(Exception):
            self._connection.close()

    def _check_whole(self) -> None:
        """Do nothing when a commit now commits everything that the block has done.

        Raises:
            TransactionError: A part of it is elsewhere.
        """
        if self._open_savepoints:
            raise TransactionError(
                "A block that was entered in this one is still open, in another asyncio task: "
                "half of what it does would be committed. All is rolled back."
            )
        self.check_session()

    def check_session(self) -> None:
        """Do nothing when the connection is the session that the block began with.

        Raises:
            TransactionError: It is another one.
        """
        if self._connection.thread_id() != self._session_id:
            raise TransactionError(
                "The connection was opened anew in the block (ping(reconnect=True), connect()), "
                "and what was done before that is lost. All is rolled back."
            )

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Undo what the block has written, and nothing else, when an exception leaves it."""
        self._savepoints += 1
        self._open_savepoints += 1
        name = f"celery_mysqllock_{self._savepoints}"
        try:
            self.run(f"SAVEPOINT {name}", {})
            try:
                yield
            except BaseException:
                # it is gone where the server has rolled all of the transaction back
                with suppress(Exception):
                    self.run(f"ROLLBACK TO SAVEPOINT {name}", {})
                raise
            self.run(f"RELEASE SAVEPOINT {name}", {})
        finally:
            self._open_savepoints -= 1

    def check(self) -> None:  # noqa: D102 - as in CallerConnection
        _OUTERMOST[self._connection].check_session()
        if self._connection.get_autocommit():
            raise TransactionError(
                "Autocommit was switched on inside of the transaction: a job would be committed at "
                "once. Leave it off in the block."
            )

    def run(self, sql: str, values: Mapping[str, object]) -> Result:  # noqa: D102
        return run_on(self._connection, sql, values)

    def after_commit(self, call: Callable[[], None]) -> None:  # noqa: D102
        calls = _OUTERMOST[self._connection].calls
        if call not in calls:
            calls.append(call)

    def driver_connection(self) -> Any:  # noqa: ANN401, D102 - as in CallerConnection
        return self._connection
