"""The life of a session: opened late, never shared with a forked child, never reopened."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pymysql.constants import CLIENT

from celery_mysqllock.exceptions import (
    CannotConnect,
    ConnectionLost,
    DatabaseError,
    MySQLLockError,
    UnsuitableServer,
)
from celery_mysqllock.mysql import driver, preparation
from celery_mysqllock.mysql.errors import DRIVER_ERRORS, is_malformed_answer, translate
from celery_mysqllock.mysql.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from pymysql.cursors import Cursor

    from celery_mysqllock.mysql.address import Address

logger = logging.getLogger(__name__)

# Seconds for an answer to a statement that does not wait: more than the waits for locks that a
# session sets, and few enough to notice a network that has gone quiet.
_PATIENCE = 15.0
# Seconds of rest after which a session is asked for a sign of life before it is used: a device on
# the way may have forgotten it.
_REST = 10.0
# Seconds for that sign of life.
_SIGN_OF_LIFE = 5.0
# MySQL's own default. A server may have a few seconds, for visitors that forget to log out.
_IDLE_TIMEOUT = 28_800

# Its full version, and how it spells the session's database: DATABASE() is as the client wrote it
# where the server keeps the case and does not look at it.
_FACTS = """
SELECT CONCAT(VERSION(), ' ', @@version_comment),
       IF(@@lower_case_table_names = 2, LOWER(DATABASE()), DATABASE()),
       @@lower_case_table_names > 0
"""


class Link:
    """A connection to one server, from logging in to its end.

    Args:
        address: Where to log in.
        idle_timeout: As for ``Session``.
        patience: As for ``Session``.
        rest: As for ``Session``.
        renews: As for ``Session``.
    """

    def __init__(
        self,
        address: Address,
        *,
        idle_timeout: int = _IDLE_TIMEOUT,
        patience: float = _PATIENCE,
        rest: float | None = _REST,
        renews: bool = False,
    ) -> None:
        self.address = address
        self.idle_timeout = idle_timeout
        self.patience = patience
        self._rest = rest
        self._renews = renews
        self._heard_at = 0.0
        # blocks that must not go on in another session
        self._undivided = 0
        self._connection: driver.Connection | None = None
        self._mutex = threading.RLock()
        self._server: Server | None = None
        self._connection_id = 0
        self._database, self._folds_case = address.database, False

    # -- life -------------------------------------------------------------------------------------

    def open(self) -> Self:
        """Connect, log in, and set all that a session needs; ``preparation`` says what that is.

        Raises:
            CannotConnect: No server answers there, or it lets nobody in just now.
            LoginRefused, UnknownDatabase, MissingPrivilege: The server says no.
            UnsuitableServer: It is none of MySQL's or MariaDB's.
        """
        options = self._options()
        try:
            self._connection = driver.connect(options, self.address.connect_timeout)
        except DRIVER_ERRORS as error:
            raise self._refused(translate(error, self.address)) from error
        # the stubs leave these two untyped
        greeting = self._connection.get_server_info()  # type: ignore[no-untyped-call]
        self._connection_id = self._connection.thread_id()  # type: ignore[no-untyped-call]
        self._heard_at = time.monotonic()
        _open_links.add(self)
        try:
            self._server = Server.from_greeting(greeting)
            self._prepare(self._server)
            driver.set_patience(self._connection, self.patience)
        except DatabaseError as error:
            self.close()
            raise self._refused(error) from error
        except BaseException:
            self.close()
            raise
        return self

    def _refused(self, error: MySQLLockError) -> MySQLLockError:
        """The error of a session that cannot be opened: what passes is worth another attempt."""
        passes = isinstance(error, DatabaseError) and error.is_passing
        return CannotConnect(str(error)) if passes or isinstance(error, ConnectionLost) else error

    def _options(self) -> dict[str, Any]:
        place: dict[str, Any] = {"host": self.address.host, "port": self.address.port}
        if self.address.unix_socket:
            place = {"unix_socket": self.address.unix_socket}
        tls = self.address.effective_tls
        return {
            **place,
            "user": self.address.user,
            # the driver would take it for Latin-1
            "password": self.address.password.encode(),
            "database": self.address.database,
            "charset": "utf8mb4",
            "program_name": "celery-mysqllock",
            "client_flag": CLIENT.MULTI_STATEMENTS,
            "login_method": self.address.login_method,
            "ssl": tls.context(),
            "ssl_disabled": tls.mode == "DISABLED",
        }

    def _prepare(self, server: Server) -> None:
        vital, rest = preparation.statements(server)
        rest.append(f"wait_timeout = {self.idle_timeout}")
        try:
            facts = self._run_all(f"{vital}; SET SESSION {', '.join(rest)}")
        except ConnectionLost:
            raise
        except DatabaseError:
            # A server that does not know one of them: see which.
            facts = self._run_all(vital)
            for assignment in rest:
                self._try_to_set(assignment)
        version, self._database, self._folds_case = str(facts[0]), str(facts[1]), bool(facts[2])
        if "tidb" in version.lower():
            raise UnsuitableServer(
                f"{self.address} is TiDB ({version}): it takes SKIP LOCKED and named locks, and "
                "ignores both. Use MySQL or MariaDB."
            )

    def _run_all(self, sql: str) -> tuple[Any, ...]:
        """Run statements in one round trip; what the server says of itself."""
        with self._mutex, self._translated() as connection, connection.cursor() as cursor:
            cursor.execute(f"{sql}; {_FACTS}")
            while cursor.nextset():
                continue
            (facts,) = cursor.fetchall()
            return tuple(facts)

    def _try_to_set(self, assignment: str) -> None:
        try:
            self.execute(f"SET SESSION {assignment}")
        except ConnectionLost:
            raise
        except DatabaseError as error:
            logger.debug("The session goes without %s: %s", assignment, error)

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
    def database(self) -> str:
        """The database's name as the server spells it, which may differ from the address in case.

        Once the session was opened; before that it is the address's.
        """
        return self._database

    @property
    def folds_case(self) -> bool:
        """Whether names of databases and tables that differ in case only are one to the server."""
        return self._folds_case

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
        with self._cursor(sql, parameters) as cursor:
            return int(cursor.rowcount)

    @contextmanager
    def _cursor(self, sql: str, parameters: Any = None) -> Iterator[Cursor]:  # noqa: ANN401
        """Send a statement; what comes out of the block is the driver's and the network's."""
        with self._mutex:
            text = driver.encoded(self._usable(), sql, parameters)
            with self._translated() as connection, connection.cursor() as cursor:
                driver.check_size(connection, text)
                cursor.execute(text)  # type: ignore[call-overload]  # no bytes in its stubs
                yield cursor

    @contextmanager
    def _translated(self) -> Iterator[driver.Connection]:
        connection = self._usable()
        try:
            yield connection
        except DRIVER_ERRORS as error:
            raise self._failed(error) from error
        self._heard_at = time.monotonic()

    def _failed(self, error: Exception) -> MySQLLockError:
        translated = translate(error, self.address)
        if isinstance(translated, ConnectionLost):
            connection = self._connection
            if connection is not None and is_malformed_answer(error):
                # Nobody knows where its answers begin.
                driver.close_socket(connection)
            self.close()
        return translated

    def _usable(self) -> driver.Connection:
        connection = self._connection
        if connection is None:
            raise ConnectionLost(f"The session with {self.address} is closed.")
        if self._rest is not None and time.monotonic() - self._heard_at > self._rest:
            return self._after_rest(connection)
        return connection

    def _after_rest(self, connection: driver.Connection) -> driver.Connection:
        """The connection if it gives a sign of life, soon; or a new one where that will do."""
        self._heard_at = time.monotonic()
        try:
            with driver.patience(connection, min(self.patience, _SIGN_OF_LIFE)):
                connection.ping(reconnect=False)
        except DRIVER_ERRORS as error:
            failed = self._failed(error)
            if self._undivided or not self._renews:
                raise failed from error
        else:
            return connection
        self.close()
        self.open()
        return self._usable()


_open_links: weakref.WeakSet[Link] = weakref.WeakSet()


def _drop_inherited() -> None:
    for link in list(_open_links):
        link.abandon()


os.register_at_fork(after_in_child=_drop_inherited)
