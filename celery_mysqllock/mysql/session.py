"""One session with a server: its life, and the statements that it runs."""

from __future__ import annotations

import os
import threading
import time
import weakref
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from celery_mysqllock.exceptions import (
    ConnectionLost,
    DatabaseError,
    MySQLLockError,
    ReadOnlyServer,
    ServerFull,
)
from celery_mysqllock.mysql import driver, login
from celery_mysqllock.mysql.errors import DRIVER_ERRORS, is_malformed_answer, translate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Self

    from pymysql.cursors import Cursor

    from celery_mysqllock.mysql.address import Address
    from celery_mysqllock.mysql.server import Server

# Seconds for the answer to a statement that does not wait: more than the lock waits that a session
# sets, and few enough to notice a network that has gone silent.
_READ_TIMEOUT = 15.0
# Seconds without a statement after which a session is pinged before it is used: a device on the way
# may have dropped the connection.
_REST = 10.0
# Seconds for the answer to that ping.
_PING_TIMEOUT = 5.0
# MySQL's own default. A server may have a few seconds, for clients that forget to log out.
_IDLE_TIMEOUT = 28_800


class Session:
    """A session with one server, on a connection of its own.

    Threads may share it: statements wait for each other. When the connection is gone, every
    further statement raises ``ConnectionLost``; to go on, open a new ``Session``. A child
    process that inherits it finds it closed, so that the parent's locks stay the parent's.

    Args:
        address: Where to log in.
        idle_timeout: Whole seconds after which the server ends the session when it hears nothing
            (``wait_timeout``); 8 hours, whatever the server's own is.
        read_timeout: Seconds for an answer, 15 by default, after which the connection counts as
            lost; ``extend_timeout`` is for statements that wait on the server.
        rest: Seconds without a statement, 10 by default, after which the server is pinged before
            the next one; None for never. It has ``read_timeout`` or 5 seconds to answer: a device
            on the way may have dropped the connection.
        renews: Whether the session is opened again when there is no answer: for one that holds no
            lock and no transaction while it rests.
    """

    def __init__(
        self,
        address: Address,
        *,
        idle_timeout: int = _IDLE_TIMEOUT,
        read_timeout: float = _READ_TIMEOUT,
        rest: float | None = _REST,
        renews: bool = False,
    ) -> None:
        self.address = address
        self.idle_timeout = idle_timeout
        self.read_timeout = read_timeout
        self._rest = rest
        self._renews = renews
        self._heard_at = 0.0
        # blocks that must not go on in another session
        self._exclusive = 0
        self._connection: driver.Connection | None = None
        self._mutex = threading.RLock()
        self._connection_id = 0
        self._facts: login.Facts | None = None

    # -- life -------------------------------------------------------------------------------------

    def open(self) -> Self:
        """Connect, log in, and set all that a session needs; ``preparation`` says what that is.

        Raises:
            CannotConnect: No server answers there, or it accepts no login just now.
            LoginRefused, UnknownDatabase, MissingPrivilege: The server says no.
            UnsuitableServer: It is neither MySQL nor MariaDB.
        """
        connection = self._connection = login.connect(self.address)
        # the stubs leave this one untyped
        self._connection_id = connection.thread_id()  # type: ignore[no-untyped-call]
        self._heard_at = time.monotonic()
        _open_sessions.add(self)
        try:
            self._facts = login.prepare(connection, self.address, self.idle_timeout)
            driver.set_timeout(connection, self.read_timeout)
        except DatabaseError as error:
            self.close()
            raise login.worth_another_attempt(error) from error
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """End the session; what it holds on the server is freed. Does nothing when closed."""
        connection, self._connection = self._connection, None
        _open_sessions.discard(self)
        if connection is not None and connection.open:
            try:
                connection.close()
            except DRIVER_ERRORS:
                # It is gone already, which is the purpose of close().
                driver.close_socket(connection)

    def shutdown(self) -> None:
        """End the session at once. A thread that is using it gets ``ConnectionLost``.

        ``close`` is for the thread that uses the session itself.
        """
        connection = self._connection
        if connection is not None:
            driver.shutdown(connection)
        if self._mutex.acquire(blocking=False):
            try:
                self.close()
            finally:
                self._mutex.release()

    def detach_after_fork(self) -> None:
        """Close a forked child's copy of the socket; the session goes on in the parent.

        An open copy of the parent's socket would keep its locks alive.
        """
        connection, self._connection = self._connection, None
        self._mutex = threading.RLock()
        _open_sessions.discard(self)
        if connection is not None:
            driver.detach_after_fork(connection)

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
        return self.address.database if self._facts is None else self._facts.database

    @property
    def folds_case(self) -> bool:
        """Whether names of databases and tables that differ in case only are one to the server."""
        return self._facts is not None and self._facts.folds_case

    @property
    def server(self) -> Server:
        """The server's kind and version.

        Raises:
            ConnectionLost: The session was never opened.
        """
        if self._facts is None:
            raise ConnectionLost(f"The session with {self.address} is not open.")
        return self._facts.server

    def fileno(self) -> int:
        """The socket's descriptor, so that ``select`` can watch it; -1 when closed.

        The socket of an idle session becomes readable only when the server ends the session.
        """
        connection = self._connection
        return -1 if connection is None else driver.descriptor(connection)

    # -- statements -------------------------------------------------------------------------------

    def execute(self, sql: str, parameters: Any = None) -> int:  # noqa: ANN401
        """Run a statement and return how many rows it changed; errors as in ``query``."""
        with self._cursor(sql, parameters) as cursor:
            return int(cursor.rowcount)

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

    def select_int(self, sql: str, *parameters: object) -> int | None:
        """Run a SELECT of one number, None for NULL; errors as in ``query``.

        Written for speed: taking a lock and giving it back is two of these.
        """
        with self._mutex:
            connection = self._usable()
            statement = driver.encoded(connection, sql, parameters)
            try:
                found = driver.select_int(connection, statement)
            except DRIVER_ERRORS as error:
                raise self._failed(error) from error
            self._heard_at = time.monotonic()
            return found

    def insert(self, sql: str, values: Mapping[str, object], *, then: str) -> driver.Inserted:
        """Run an INSERT and, in the same round trip, a SELECT of one number.

        For publishing, which is one of these each time; errors as in ``query``.

        Args:
            sql: The INSERT, with ``%(name)s`` for values.
            values: The values of both statements.
            then: The SELECT.
        """
        with self._mutex:
            statement = driver.encoded(self._usable(), f"{sql}; {then}", values)
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
        """Do nothing when the server accepts a statement of this size.

        Raises:
            MessageTooLarge: It does not.
        """
        with self._mutex:
            statement = driver.encoded(self._usable(), sql, parameters)
            with self._translated() as connection:
                driver.check_size(connection, statement)

    def ping(self) -> None:
        """Ping the server on this very connection.

        Raises:
            ConnectionLost: It does not answer.
        """
        with self._mutex, self._translated() as connection:
            connection.ping(reconnect=False)

    def stay_alive(self) -> None:
        """Ping the server if the session rests; do nothing while another thread uses it.

        Raises:
            ConnectionLost: It does not answer.
        """
        if self._mutex.acquire(blocking=False):
            try:
                self._usable()
            finally:
                self._mutex.release()

    def send(self, sql: str | None = None) -> bool:
        """Send a statement without waiting for its answer, which ``receive`` reads.

        Statements of other threads wait until then. For a thread that watches many sessions and
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
    def extend_timeout(self, seconds: float) -> Iterator[None]:
        """Allow the block's statements ``seconds`` more than ``read_timeout``."""
        with self._mutex, driver.timeout(self._usable(), self.read_timeout + seconds):
            yield

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep other threads' statements out of the block, and leave no transaction open.

        The block begins and commits its own transaction, so that it can do both in a script with
        other statements; an exception that leaves the block rolls back.
        """
        with self._mutex:
            self._exclusive += 1
            try:
                yield
            except BaseException:
                if self.is_open:
                    with self._translated() as connection:
                        connection.rollback()
                raise
            finally:
                self._exclusive -= 1

    # -- running a statement ----------------------------------------------------------------------

    @contextmanager
    def _cursor(self, sql: str, parameters: Any = None) -> Iterator[Cursor]:  # noqa: ANN401
        """Send a statement; driver errors are translated, also those of the block."""
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
                # Its next answer may begin anywhere.
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
        """The connection if it answers a ping; or a new one, if the session renews itself."""
        self._heard_at = time.monotonic()
        try:
            with driver.timeout(connection, min(self.read_timeout, _PING_TIMEOUT)):
                connection.ping(reconnect=False)
        except DRIVER_ERRORS as error:
            failed = self._failed(error)
            if self._exclusive or not self._renews:
                raise failed from error
        else:
            return connection
        self.close()
        self.open()
        return self._usable()


_open_sessions: weakref.WeakSet[Session] = weakref.WeakSet()


def _drop_inherited() -> None:
    for session in list(_open_sessions):
        session.detach_after_fork()


os.register_at_fork(after_in_child=_drop_inherited)


def open_first(
    sessions: Sequence[Session],
    check: Callable[[Session], object] | None = None,
    *passed_over: type[Exception],
) -> Session:
    """Open the first session whose server answers and passes the check, or else the last.

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
