"""One session with the server: the statements that it runs."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from celery_mysqllock.exceptions import ReadOnlyServer, ServerFull
from celery_mysqllock.mysql import driver
from celery_mysqllock.mysql.errors import DRIVER_ERRORS
from celery_mysqllock.mysql.link import Link

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence


class Session(Link):
    """A session with one server, on a connection of its own.

    Threads may share it: statements wait for each other. When the connection is gone, every
    further statement raises ``ConnectionLost``; to go on, open a new ``Session``. A child
    process that inherits it finds it closed, so that the parent's locks stay the parent's.

    Args:
        address: Where to log in.
        idle_timeout: Whole seconds after which the server ends the session when it hears nothing
            (``wait_timeout``); 8 hours, whatever the server's own is.
        patience: Seconds after which an answer that has not come counts as a lost connection, 15.
            ``waiting`` is for statements that wait themselves.
        rest: Seconds without a statement, 10, after which the server is asked for a sign of life
            before the next one; None for never. It gets ``patience`` or 5 seconds for it: a device
            on the way may have forgotten the connection.
        renews: Whether the session is opened anew when there is no such sign: for one that holds
            nothing, no lock and no transaction, while it rests.
    """

    def query(self, sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:  # noqa: ANN401
        """Run a statement and return its rows.

        Args:
            sql: The statement, with ``%s`` or ``%(name)s`` for values.
            parameters: The values, a tuple or a mapping.

        Raises:
            ConnectionLost: The session has ended.
            DatabaseError: The server refused the statement; the subclass says why.
        """
        with self._cursor(sql, parameters) as cursor:
            return list(cursor.fetchall())

    def value(self, sql: str, parameters: Any = None) -> Any:  # noqa: ANN401
        """Run a statement and return the first column of its first row, None without a row."""
        rows = self.query(sql, parameters)
        return rows[0][0] if rows else None

    def number(self, sql: str, *parameters: object) -> int | None:
        """Run a SELECT of one number, None for NULL; errors as in ``query``.

        As short as can be: taking a lock and giving it back is two of these.
        """
        with self._mutex:
            connection = self._usable()
            statement = driver.encoded(connection, sql, parameters)
            try:
                found = driver.number(connection, statement)
            except DRIVER_ERRORS as error:
                raise self._failed(error) from error
            self._heard_at = time.monotonic()
            return found

    def insert(self, sql: str, values: Mapping[str, object]) -> driver.Inserted:
        """Run an INSERT and a SELECT of one number, separated by ``;``, in one round trip.

        For publishing, which is one of these each time; errors as in ``query``.
        """
        with self._mutex:
            statement = driver.encoded(self._usable(), sql, values)
            with self._translated() as connection:
                return driver.insert(connection, statement)

    def script(self, sql: str, parameters: Any = None) -> list[Any]:  # noqa: ANN401
        """Run several statements, separated by ``;``, in one round trip.

        Returns:
            For each statement the rows of a SELECT, else the number of rows that it changed. A
            statement that fails ends the script; those before it have been run.

        Raises:
            MessageTooLarge: The server would not read so large a script; nothing was sent.
        """
        results: list[Any] = []
        with self._cursor(sql, parameters) as cursor:
            # Only the server knows whether there is more; reading past the end would block.
            while True:
                results.append(list(cursor.fetchall()) if cursor.description else cursor.rowcount)
                if not cursor.nextset():
                    return results

    def check_size(self, sql: str, parameters: Any = None) -> None:  # noqa: ANN401
        """Do nothing when the server would read so large a statement.

        Raises:
            MessageTooLarge: It would not.
        """
        with self._mutex:
            statement = driver.encoded(self._usable(), sql, parameters)
            with self._translated() as connection:
                driver.check_size(connection, statement)

    def ping(self) -> None:
        """Ask the server for a sign of life on this very connection.

        Raises:
            ConnectionLost: There is none.
        """
        with self._mutex, self._translated() as connection:
            connection.ping(reconnect=False)

    def stay_alive(self) -> None:
        """Ask for a sign of life if the session rests; do nothing while another thread uses it.

        Raises:
            ConnectionLost: There is none.
        """
        if self._mutex.acquire(blocking=False):
            try:
                self._usable()
            finally:
                self._mutex.release()

    def send(self, sql: str | None = None) -> bool:
        """Send a statement without waiting for its answer, which ``receive`` reads.

        Statements of other threads wait in between. For a thread that watches many sessions and
        must not wait for one of them.

        Args:
            sql: A statement that returns no rows and has no values in it; None for a ping.

        Returns:
            False, and nothing sent, when another thread's statement is under way.

        Raises:
            ConnectionLost: The session has ended.
        """
        if not self._mutex.acquire(blocking=False):
            return False
        try:
            with self._translated() as connection:
                driver.send(connection, sql)
        except BaseException:
            self._mutex.release()
            raise
        return True

    def receive(self) -> None:
        """Read the answer to ``send``, in the thread that called it; errors as in ``query``."""
        try:
            with self._translated() as connection:
                driver.receive(connection)
        finally:
            self._mutex.release()

    @contextmanager
    def waiting(self, seconds: float) -> Iterator[None]:
        """Let the block's statements take so many seconds longer than ``patience``."""
        with self._mutex, driver.patience(self._usable(), self.patience + seconds):
            yield

    @contextmanager
    def undivided(self) -> Iterator[None]:
        """Let no other thread's statement come between the block's, and leave nothing open.

        The block begins and commits its own transaction, so that it can do both in a ``script``
        with other statements; what an error leaves open is rolled back.
        """
        with self._mutex:
            self._undivided += 1
            try:
                yield
            except BaseException:
                if self.is_open:
                    with self._translated() as connection:
                        connection.rollback()
                raise
            finally:
                self._undivided -= 1


def open_first(
    sessions: Sequence[Session],
    check: Callable[[Session], object] | None = None,
    *passed_over: type[Exception],
) -> Session:
    """Open the first of the sessions whose server answers and passes the check, or else the last.

    Args:
        sessions: Sessions that are not open, in the order of preference.
        check: Called with an open one, except for the last; ``ReadOnlyServer`` passes it over.
        passed_over: Further errors of a login or the check that pass a server over.

    Raises:
        CannotConnect: None answers.
        LoginRefused, UnknownDatabase, MissingPrivilege: A server says no.
    """
    *firsts, last = sessions
    elsewhere = (ConnectionError, ReadOnlyServer, ServerFull, *passed_over)
    for session in firsts:
        with suppress(*elsewhere), ExitStack() as stack:
            stack.enter_context(session)
            if check is not None:
                check(session)
            stack.pop_all()
            return session
    return last.open()
