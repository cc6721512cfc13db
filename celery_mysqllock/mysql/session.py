"""One session with the server: opened late, never shared with a forked child, never reopened."""

from __future__ import annotations

import os
import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pymysql

from celery_mysqllock.exceptions import CannotConnect, ConnectionLost, DatabaseError
from celery_mysqllock.mysql.errors import DRIVER_ERRORS, translate
from celery_mysqllock.mysql.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self

    from celery_mysqllock.mysql.address import Address

# Longer than any statement of ours may take, short enough to notice a vanished network.
_READ_TIMEOUT = 90.0


class Session:
    """A session with one server, on a connection of its own.

    Threads may share it: statements wait for each other. When the connection is gone, every
    further statement raises ``ConnectionLost``; to go on, open a new ``Session``. A child
    process that inherits it finds it closed, so that the parent's locks stay the parent's.

    Args:
        address: Where to log in.
        idle_timeout: Whole seconds after which the server ends the session when it hears nothing
            (``wait_timeout``); None leaves the server's own, which is 8 hours by default.
    """

    def __init__(self, address: Address, *, idle_timeout: int | None = None) -> None:
        self.address = address
        self.idle_timeout = idle_timeout
        self._connection: pymysql.Connection[Any] | None = None
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
        except BaseException:
            self.close()
            raise
        return self

    def _connect(self) -> pymysql.Connection[Any]:
        place: dict[str, Any] = {"host": self.address.host, "port": self.address.port}
        if self.address.unix_socket:
            place = {"unix_socket": self.address.unix_socket}
        return pymysql.connect(
            **place,
            user=self.address.user,
            password=self.address.password,
            database=self.address.database,
            connect_timeout=max(1, round(self.address.connect_timeout)),
            read_timeout=_READ_TIMEOUT,
            write_timeout=_READ_TIMEOUT,
            charset="utf8mb4",
            autocommit=True,
            program_name="celery-mysqllock",
        )

    def _prepare(self) -> None:
        # Gap locks of the default REPEATABLE READ would make consumers wait for each other.
        self.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        if self.idle_timeout is not None:
            self.execute("SET SESSION wait_timeout = %s", (self.idle_timeout,))

    def close(self) -> None:
        """End the session; what it holds on the server is freed. Does nothing when closed."""
        connection, self._connection = self._connection, None
        _open_sessions.discard(self)
        if connection is not None and connection.open:
            try:
                connection.close()
            except DRIVER_ERRORS:
                # It is gone already, which is all that close() is to bring about.
                _close_socket(connection)

    def abandon(self) -> None:
        """Forget the connection without a word to the server, whose session lives on elsewhere.

        For a forked child: an open copy of the parent's socket would keep its locks alive.
        """
        connection, self._connection = self._connection, None
        self._mutex = threading.RLock()
        _open_sessions.discard(self)
        if connection is not None:
            _close_socket(connection)

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
        # PyMySQL has no public way to its socket.
        sock = getattr(connection, "_sock", None)
        return -1 if sock is None else int(sock.fileno())

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

    def insert(self, sql: str, parameters: Any = None) -> int:  # noqa: ANN401
        """Run an INSERT and return the AUTO_INCREMENT id it gave; errors as in ``query``."""
        with self._cursor() as cursor:
            if cursor.execute(sql, parameters) != 1:
                raise DatabaseError(f"The INSERT stored no row [{self.address}].")
            return int(cursor.lastrowid or 0)

    def value(self, sql: str, parameters: Any = None) -> Any:  # noqa: ANN401
        """Run a statement and return the first column of its first row, None without a row."""
        rows = self.query(sql, parameters)
        return rows[0][0] if rows else None

    def ping(self) -> None:
        """Ask the server for a sign of life on this very connection.

        Raises:
            ConnectionLost: There is none.
        """
        with self._mutex, self._translated() as connection:
            connection.ping(reconnect=False)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Run the block's statements in one transaction, other threads' statements after it."""
        with self._mutex:
            with self._translated() as connection:
                connection.begin()
            try:
                yield
                with self._translated() as connection:
                    connection.commit()
            except BaseException:
                if self.is_open:
                    with self._translated() as connection:
                        connection.rollback()
                raise

    @contextmanager
    def _cursor(self) -> Iterator[pymysql.cursors.Cursor]:
        with self._mutex, self._translated() as connection, connection.cursor() as cursor:
            yield cursor

    @contextmanager
    def _translated(self) -> Iterator[pymysql.Connection[Any]]:
        if self._connection is None:
            raise ConnectionLost(f"The session with {self.address} is closed.")
        try:
            yield self._connection
        except DRIVER_ERRORS as error:
            translated = translate(error, self.address)
            if isinstance(translated, ConnectionLost):
                self.close()
            raise translated from error


_open_sessions: weakref.WeakSet[Session] = weakref.WeakSet()


def _close_socket(connection: pymysql.Connection[Any]) -> None:
    # PyMySQL names it as private, but only this closes without a word to the server.
    connection._force_close()  # type: ignore[attr-defined]  # noqa: SLF001


def _drop_inherited() -> None:
    for session in list(_open_sessions):
        session.abandon()


os.register_at_fork(after_in_child=_drop_inherited)
