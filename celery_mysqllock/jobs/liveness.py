"""A consumer's identity and sign of life: a named lock that the server frees when it dies."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import uuid
from typing import TYPE_CHECKING

from celery_mysqllock.exceptions import (
    ConnectionLost,
    DatabaseError,
    LockError,
    MissingPrivilege,
    MySQLLockError,
    NoSuchSession,
)
from celery_mysqllock.jobs.registry import Registry
from celery_mysqllock.jobs.repeated import RepeatedWarnings
from celery_mysqllock.mysql import Session, get_lock, release_lock, storable
from celery_mysqllock.mysql.threads import start_thread
from celery_mysqllock.settings import answer_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from celery_mysqllock.jobs.lock_names import LockNames
    from celery_mysqllock.jobs.sweeper import Sweeper
    from celery_mysqllock.mysql import Address

logger = logging.getLogger(__name__)

# Seconds of one wait for the sweeper's lock. The wait also keeps the session alive, and a network
# that has gone quiet hides the loss of the session for as long.
_IN_LINE = 10
# Seconds that the server may need to notice that an earlier session of this identity has ended.
_TAKE_OVER = 10
# Seconds between two attempts to open a session again: less than the grace after which the sweeper
# gives the claims of a dead consumer back.
_RETRY = 0.5


class Liveness:
    """Shows that one consumer of the job table is alive.

    While the consumer lives, a session of its own holds the named lock
    ``~<table>:consumer:<identity>``. When it dies, whatever the cause, the server frees the lock,
    and the sweeper gives its claims back. A thread keeps the session alive and waits to become the
    sweeper. It is a thread because the worker's event loop stands still while a task runs in the
    solo pool.

    A lost session is opened again at once, so that what its worker is running stays its own while
    Celery reconnects.

    Args:
        address: Where to log in.
        session_timeout: Whole seconds after which the server frees the lock of a vanished host.
        names: The names of the table's locks.
        sweeper: Does the housekeeping while this consumer is the one to do it.
        on_lost: Called from the thread each time the session is lost.
        companion: Another session of the same connection, to be kept alive.
        table: The job table's name.
        name: What people know it by, None for host and process id.
    """

    def __init__(  # noqa: PLR0913 - each is named at the call
        self,
        address: Address,
        *,
        session_timeout: int,
        names: LockNames,
        sweeper: Sweeper,
        on_lost: Callable[[MySQLLockError], None],
        companion: Session | None = None,
        table: str = "jobs",
        name: str | None = None,
    ) -> None:
        self.identity = uuid.uuid4().hex
        self._read_timeout = answer_time(session_timeout)
        self._session = Session(
            address, idle_timeout=session_timeout, read_timeout=self._read_timeout
        )
        self._names = names
        self._sweeper = sweeper
        self._on_lost = on_lost
        self._companion = companion
        self._table = table
        self._name = storable(name or f"{socket.gethostname()}:{os.getpid()}")
        self._queues: list[str] = []
        self._stopped = threading.Event()
        self._warnings = RepeatedWarnings(logger)

    def start(self) -> None:
        """Take the liveness lock and begin to wait for the sweeper's lock.

        Raises:
            CannotConnect, LoginRefused: There is no session to hold it.
            LockError: Another session holds the lock of this identity.
        """
        self._take_lock()
        start_thread(self._live, "mysqllock-liveness", self._crash)

    def _take_lock(self) -> None:
        self._session.open()
        try:
            self._identify()
            self._register()
        except BaseException:
            self._session.close()
            raise

    def _identify(self) -> None:
        if not get_lock(self._session, self._names.consumer(self.identity), _TAKE_OVER):
            raise LockError(f"Another session has the identity {self.identity} of a consumer.")

    def _register(self) -> None:
        try:
            Registry(self._session, self._table).add(self.identity, self._name, self._queues)
        except ConnectionLost:
            raise
        except DatabaseError as error:
            # it consumes all the same; only operators do not see it
            logger.warning("The consumer is not on the list of consumers: %s", error)

    def show_queues(self, queues: Iterable[str], session: Session) -> None:
        """Say on the list of consumers what this one consumes from.

        Args:
            queues: All of them.
            session: A session to write it with.
        """
        self._queues = sorted(queues)
        Registry(session, self._table).set_queues(self.identity, self._queues)

    def stop(self, session: Session | None = None) -> None:
        """End the session, which frees the liveness lock. Settle every claim before.

        Args:
            session: A session to kill its own one with, and to take it off the list of consumers;
                without one the sweeper does so, after its grace. The server does not notice for
                seconds that a client which waits for a lock has hung up, and might give it the
                sweeper's lock.
        """
        self._stopped.set()
        try:
            if session is not None:
                with contextlib.suppress(NoSuchSession, MissingPrivilege):
                    session.execute("KILL %s", (self._session.connection_id,))
                Registry(session, self._table).remove(self.identity)
        except DatabaseError:
            # then the sweeper does it
            pass
        finally:
            self._session.shutdown()

    @property
    def is_alive(self) -> bool:
        """Whether the session that holds the liveness lock is open, as far as is known."""
        return self._session.is_open and not self._stopped.is_set()

    def _live(self) -> None:
        while not self._stopped.is_set():
            try:
                self._keep_companion()
                self._wait_in_line_or_sweep()
            except MySQLLockError as error:
                if not self._stopped.is_set():
                    logger.warning("The consumer's session was lost: %s", error)
                    self._session.close()
                    self._on_lost(error)
                    self._come_back()

    def _crash(self, error: BaseException) -> None:
        # The server frees the lock: what this consumer has claimed goes back to the queue.
        self._session.shutdown()
        self._on_lost(ConnectionLost(f"The consumer has ended with an error: {error!r}"))

    def _keep_companion(self) -> None:
        """Keep the connection's main session alive, which is idle while nothing comes."""
        if self._companion is not None and self._companion.is_open:
            try:
                self._companion.stay_alive()
            except ConnectionLost as error:
                self._on_lost(error)

    def _come_back(self) -> None:
        """Hold the liveness lock again, as soon as the server lets it."""
        self._sweeper.forget()
        while not self._stopped.wait(_RETRY):
            session = Session(
                self._session.address,
                idle_timeout=self._session.idle_timeout,
                read_timeout=self._read_timeout,
            )
            self._session = session
            try:
                self._take_lock()
            except MySQLLockError as error:
                logger.debug("The consumer's session is not back: %s", error)
                continue
            if self._stopped.is_set():
                session.close()
            return

    def _wait_in_line_or_sweep(self) -> None:
        try:
            if get_lock(self._session, self._names.sweeper, _IN_LINE):
                self._sweeper.begin(self.identity)
                while not self._stopped.is_set():
                    self._sweeper.step(self._session, self.identity)
                    self._keep_companion()
        except ConnectionLost:
            raise
        except MySQLLockError as error:
            self._warnings.warn("The housekeeping of the job table failed: %s", error)
            # another consumer may be able to: this one's user may lack a privilege
            release_lock(self._session, self._names.sweeper)
            self._stopped.wait(1.0)
