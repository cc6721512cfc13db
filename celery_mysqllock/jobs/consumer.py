"""A consumer's identity and sign of life, and the recovery of what dead consumers had claimed."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from typing import TYPE_CHECKING

from celery_mysqllock.exceptions import ConnectionLost, LockError, MySQLLockError
from celery_mysqllock.jobs.table import JobTable
from celery_mysqllock.mysql import Address, Session, get_lock, is_free, lock_name

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)


class Consumer:
    """One consumer of the job table.

    While it lives it holds the named lock ``<namespace>:consumer:<identity>`` on a session of its
    own. When it dies, whatever the cause, the server frees the lock, and a living consumer gives
    its claims back to the queue. A thread keeps the session alive and looks for dead consumers:
    a thread, since the worker's event loop stands still while a task runs in the solo pool.

    Args:
        address: The database.
        namespace: The first part of the lock's name.
        table: The job table's name.
        session_timeout: Whole seconds after which a vanished host counts as dead.
        grace: Seconds for which a consumer's lock must have been free before its claims return.
        on_lost: Called from the thread when the session is lost.
        working: The session that this consumer claims with; it is kept alive too, and a vanished
            host's row locks end with it.
    """

    def __init__(  # noqa: PLR0913 - each is named at the call
        self,
        address: Address,
        *,
        namespace: str,
        table: str,
        session_timeout: int,
        grace: float,
        on_lost: Callable[[], None],
        working: Session,
    ) -> None:
        self.identity = uuid.uuid4().hex
        self._namespace = namespace
        self._table = table
        self._grace = grace
        self._session_timeout = session_timeout
        self._interval = min(grace, session_timeout) / 3
        self._on_lost = on_lost
        self._working = working
        self._session = Session(address, idle_timeout=session_timeout)
        self._stopped = threading.Event()
        self._suspected_since: dict[str, float] = {}
        self._is_sweeper = False

    def start(self) -> None:
        """Take the liveness lock and begin to look for dead consumers.

        Raises:
            CannotConnect, LoginRefused: There is no session to hold it.
            LockError: The server could not give the lock.
        """
        self._working.set_idle_timeout(self._session_timeout)
        self._session.open()
        if not get_lock(self._session, self._liveness_lock(self.identity), 0):
            raise LockError(f"The identity {self.identity} of a new consumer is in use.")
        self._jobs = JobTable(self._session, self._table)
        threading.Thread(target=self._watch, name="mysqllock-consumer", daemon=True).start()

    def stop(self) -> None:
        """End the session, which frees the liveness lock. Release or ack every claim before."""
        self._stopped.set()
        self._session.close()

    @property
    def is_alive(self) -> bool:
        """Whether the session that holds the liveness lock is open, as far as is known."""
        return self._session.is_open and not self._stopped.is_set()

    def _watch(self) -> None:
        try:
            while not self._stopped.wait(self._interval):
                self._look()
        except ConnectionLost as error:
            if not self._stopped.is_set():
                logger.warning("The consumer's session was lost: %s", error)
                self._on_lost()

    def _look(self) -> None:
        try:
            self._keep_alive_and_sweep()
        except ConnectionLost:
            raise
        except MySQLLockError as error:
            logger.warning("Looking for dead consumers failed, trying again: %s", error)

    def _keep_alive_and_sweep(self) -> None:
        self._working.ping()
        if not self._is_sweeper:
            self._is_sweeper = get_lock(self._session, lock_name(self._namespace, "sweeper"), 0)
        if self._is_sweeper:
            self._sweep()
        else:
            self._session.ping()

    def _sweep(self) -> None:
        """Release the claims of each consumer whose lock has been free for the grace."""
        free = {
            owner
            for owner in self._jobs.owners() - {self.identity}
            if is_free(self._session, self._liveness_lock(owner))
        }
        now = time.monotonic()
        self._suspected_since = {owner: self._suspected_since.get(owner, now) for owner in free}
        for owner, since in self._suspected_since.items():
            if now - since >= self._grace:
                released = self._jobs.release_claims_of(owner)
                logger.warning("Consumer %s is dead; %d jobs go back.", owner, released)

    def _liveness_lock(self, identity: str) -> str:
        return lock_name(self._namespace, "consumer", identity)
