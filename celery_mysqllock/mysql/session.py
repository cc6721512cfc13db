"""One session with the server: opened late, never shared with a forked child, never reopened."""

from __future__ import annotations

import os
import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pymysql.constants import CLIENT

from celery_mysqllock.exceptions import CannotConnect, ConnectionLost, MySQLLockError
from celery_mysqllock.mysql import driver
from celery_mysqllock.mysql.errors import DRIVER_ERRORS, translate
from celery_mysqllock.mysql.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pymysql.cursors import Cursor
    from typing_extensions import Self

    from celery_mysqllock.mysql.address import Address

# Longer than any statement of ours may take, short enough to notice a vanished network.
_PATIENCE = 90.0


class Session:
    """A session with one server, on a connection of its own.

    Threads may share it: statements wait for each other. When the connection is gone, every
    further statement raises ``ConnectionLost``; to go on, open a new ``Session``. A child
    process that inherits it finds it closed, so that the parent's locks stay the parent's.

    Args:
        address: Where to log in.
        idle_timeout: Whole seconds after which the server ends the session when it hears nothing
            (``wait_timeout``); None leaves the server's own, which is 8 hours by default.
        patience: Seconds after which an answer that has not come counts as a lost connection.
    """

    def __init__(
        self, address: Address, *, idle_timeout: int | None = None, patience: float = _PATIENCE
    ) -> None:
        self.address = address
        self.idle_timeout = idle_timeout
        self.patience = patience
        self._connection: driver.Connection | None = None
        self._mutex = threading.RLock()
        self._server: Server | None = None
        self._connection_id = 0

    # -- life -------------------------------------------------------------------------------------

    def open(self) -> Self:
        """Connect and log in; READ COMMITTED, autocommit, utf8mb4.

        Raises:
            CannotConnect: No server answers there.
            LoginRefused, UnknownDatabase, MissingPrivilege: The server says no.
        """
        try:
            self._connection = self._connect()
        except DRIVER_ERRORS as error:
            translated = translate(error, self.address)
            if isinstance(translated, ConnectionLost):
                translated = CannotConnect(str(translated))
            raise translated from error
        # the stubs leave these two untyped
        self._server = Server.from_greeting(self._connection.get_server_info())  # type: ignore[no-untyped-call]
        self._connection_id = self._connection.thread_id()  # type: ignore[no-untyped-call]
        _open_sessions.add(self)
        try:
            self._prepare()
        except ConnectionLost as error:
            raise CannotConnect(str(error)) from error
        except BaseException:
            self.close()
            raise
        return self

    def _connect(self) -> driver.Connection:
        place: dict[str, Any] = {"host": self.address.host, "port": self.address.port}
        if self.address.unix_socket:
            place = {"unix_socket": self.address.unix_socket}
        tls = self.address.effective_tls
        return driver.Connection(
            **place,
            user=self.address.user,
            # the driver would take it for Latin-1
            password=self.address.password.encode(),
            database=self.address.database,
            connect_timeout=max(1, round(self.address.connect_timeout)),
            read_timeout=self.patience,
            write_timeout=self.patience,
            charset="utf8mb4",
            autocommit=True,
            program_name="celery-mysqllock",
            client_flag=CLIENT.MULTI_STATEMENTS,
            ssl=tls.context(),
            ssl_disabled=tls.mode == "DISABLED",
        )

    def _prepare(self) -> None:
        # Gap locks of the default REPEATABLE READ would make consumers wait for each other.
        self.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        self.execute("SET SESSION time_zone = '+00:00'")
        if self.idle_timeout is not None:
            self.set_idle_timeout(self.idle_timeout)

    def set_idle_timeout(self, seconds: int) -> None:
        """Have the server end the session when it hears nothing for so many whole seconds."""
        self.execute("SET SESSION wait_timeout = %s", (seconds,))
        self.idle_timeout = seconds

    def close(self) -> None:
        """End the session; what it holds on the server is freed. Does nothing when closed."""
        connection, self._connection = self._connection, None
        _open_sessions.discard(self)
        if connection is not None and connection.open:
            try:
                connection.close()
            except DRIVER_ERRORS:
                # It is gone already, which is all that close() is to bring about.
                driver.close_socket(connection)

    def hang_up(self) -> None:
        """End the session at once, whichever thread uses it: that thread gets ``ConnectionLost``.

        ``close`` is for the thread that uses the session itself.
        """
        connection = self._connection
        if connection is not None:
            driver.hang_up(connection)
        if self._mutex.acquire(blocking=False):
            try:
                self.close()
            finally:
                self._mutex.release()

    def abandon(self) -> None:
        """Forget the connection without a word to the server, whose session lives on elsewhere.

        For a forked child: an open copy of the parent's socket would keep its locks alive.
        """
        connection, self._connection = self._connection, None
        self._mutex = threading.RLock()
        _open_sessions.discard(self)
        if connection is not None:
            driver.forget(connection)

    def __enter__(self) -> Self:
        return self if self.is_open else self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- facts ------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether the session was opened and has not been closed or seen lost."""
        return self._connection is not None and self._connection.open

    @property
    def connection_id(self) -> int:
        """The server's number for this session (``CONNECTION_ID()``)."""
        return self._connection_id

    @property
    def server(self) -> Server:
        """The server's kind and version.

        Raises:
            ConnectionLost: The session was never opened.
        """
        if self._server is None:
            raise ConnectionLost(f"The session with {self.address} is not open.")
        return self._server

    def fileno(self) -> int:
        """The socket's descriptor, so that ``select`` can watch it; -1 when closed.

        The socket of an idle session becomes readable only when the server ends the session.
        """
        connection = self._connection
        return -1 if connection is None else driver.descriptor(connection)

    # -- statements -------------------------------------------------------------------------------

    def query(self, sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:  # noqa: ANN401
        """Run a statement and return its rows.

        Args:
            sql: The statement, with ``%s`` or ``%(name)s`` for values.
            parameters: The values, a tuple or a mapping.

        Raises:
            ConnectionLost: The session has ended.
            DatabaseError: The server refused the statement; the subclass says why.
        """
        with self._cursor() as cursor:
            cursor.execute(sql, parameters)
            return list(cursor.fetchall())

    def execute(self, sql: str, parameters: Any = None) -> int:  # noqa: ANN401
        """Run a statement and return the number of rows it changed; errors as in ``query``."""
        with self._cursor() as cursor:
            return int(cursor.execute(sql, parameters))

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
            try:
                return driver.number(connection, sql, parameters)
            except DRIVER_ERRORS as error:
                raise self._failed(error) from error

    def insert(self, sql: str, values: Mapping[str, object]) -> driver.Inserted:
        """Run an INSERT and a SELECT of one number, separated by ``;``, in one round trip.

        For publishing, which is one of these each time; errors as in ``query``.
        """
        with self._mutex, self._translated() as connection:
            return driver.insert(connection, sql, values)

    def script(self, sql: str, parameters: Any = None) -> list[Any]:  # noqa: ANN401
        """Run several statements, separated by ``;``, in one round trip.

        Returns:
            For each statement the rows of a SELECT, else the number of rows that it changed. A
            statement that fails ends the script; those before it have been run.

        Raises:
            MessageTooLarge: The server would not read so large a script; nothing was sent.
        """
        results: list[Any] = []
        with self._cursor() as cursor:
            text = cursor.mogrify(sql, parameters)
            driver.check_size(self._usable(), text)
            cursor.execute(text)
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
        with self._cursor() as cursor:
            driver.check_size(self._usable(), cursor.mogrify(sql, parameters))

    def ping(self) -> None:
        """Ask the server for a sign of life on this very connection.

        Raises:
            ConnectionLost: There is none.
        """
        with self._mutex, self._translated() as connection:
            connection.ping(reconnect=False)

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
        with self._mutex:
            connection = self._usable()
            driver.set_patience(connection, self.patience + seconds)
            try:
                yield
            finally:
                driver.set_patience(connection, self.patience)

    @contextmanager
    def undivided(self) -> Iterator[None]:
        """Let no other thread's statement come between the block's, and leave nothing open.

        The block begins and commits its own transaction, so that it can do both in a ``script``
        with other statements; what an error leaves open is rolled back.
        """
        with self._mutex:
            try:
                yield
            except BaseException:
                if self.is_open:
                    with self._translated() as connection:
                        connection.rollback()
                raise

    @contextmanager
    def _cursor(self) -> Iterator[Cursor]:
        with self._mutex, self._translated() as connection, connection.cursor() as cursor:
            yield cursor

    @contextmanager
    def _translated(self) -> Iterator[driver.Connection]:
        connection = self._usable()
        try:
            yield connection
        except DRIVER_ERRORS as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> MySQLLockError:
        translated = translate(error, self.address)
        if isinstance(translated, ConnectionLost):
            self.close()
        return translated

    def _usable(self) -> driver.Connection:
        if self._connection is None:
            raise ConnectionLost(f"The session with {self.address} is closed.")
        return self._connection


_open_sessions: weakref.WeakSet[Session] = weakref.WeakSet()


def _drop_inherited() -> None:
    for session in list(_open_sessions):
        session.abandon()


os.register_at_fork(after_in_child=_drop_inherited)
