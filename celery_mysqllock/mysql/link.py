"""The life of a session: opened late, never shared with a forked child, never reopened."""

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
    from collections.abc import Iterator

    from pymysql.cursors import Cursor
    from typing_extensions import Self

    from celery_mysqllock.mysql.address import Address

# Longer than any statement of ours may take, short enough to notice a vanished network.
_PATIENCE = 90.0


class Link:
    """A connection to one server, from logging in to its end.

    Args:
        address: Where to log in.
        idle_timeout: As for ``Session``.
        patience: As for ``Session``.
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
        _open_links.add(self)
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
        _open_links.discard(self)
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
        _open_links.discard(self)
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

    def execute(self, sql: str, parameters: Any = None) -> int:  # noqa: ANN401
        """Run a statement and return how many rows it changed; errors as in ``Session.query``."""
        with self._cursor() as cursor:
            return int(cursor.execute(sql, parameters))

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


_open_links: weakref.WeakSet[Link] = weakref.WeakSet()


def _drop_inherited() -> None:
    for link in list(_open_links):
        link.abandon()


os.register_at_fork(after_in_child=_drop_inherited)
