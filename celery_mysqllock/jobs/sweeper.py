"""The housekeeping that one consumer of a job table does for all of them."""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING

from celery_mysqllock.exceptions import Interrupted
from celery_mysqllock.jobs.ephemeral import EphemeralQueues
from celery_mysqllock.jobs.registry import Registry
from celery_mysqllock.jobs.table import JobTable
from celery_mysqllock.mysql import free_among

if TYPE_CHECKING:
    from celery_mysqllock.jobs.lock_names import LockNames
    from celery_mysqllock.mysql import Session
    from celery_mysqllock.settings import BrokerSettings

logger = logging.getLogger(__name__)

# Seconds between two removals of ephemeral queues and of finished jobs, and between two looks for
# order keys whose line stands still.
_TIDY = 5.0


class Sweeper:
    """Promotes what is due, rings for what nobody rang for, takes back what the dead had claimed.

    Args:
        settings: The broker's settings.
        names: The names of the table's locks.
    """

    def __init__(self, settings: BrokerSettings, names: LockNames) -> None:
        self._settings = settings
        self._names = names
        self._suspected_since: dict[str, float] = {}
        self._next_tidying = 0.0
        self._gaps_after = ""

    def step(self, session: Session, identity: str) -> None:
        """Do one round, then sleep until the next or until something is due.

        A round in which there is nothing to do is one statement, and one more when there are other
        consumers.

        Args:
            session: The session that holds the sweeper's lock; who schedules a job rings it.
            identity: The consumer that this is.

        Raises:
            ConnectionLost: The session has ended.
        """
        jobs = JobTable(session, self._settings.table, names=self._names)
        seen = jobs.look()
        if seen.is_due:
            while jobs.promote():
                pass
            seen = jobs.look()
        for queue in seen.ready_queues:
            # who inserted the jobs may not have rung
            jobs.ring(queue)
        until_free = self._take_back(session, jobs, (seen.owners | seen.consumers) - {identity})
        if time.monotonic() >= self._next_tidying:
            self._next_tidying = time.monotonic() + _TIDY
            self._tidy(session, jobs)
        # What is due and was not promoted has been changed by hand; it must not keep this awake.
        until_due = math.inf if seen.is_due else seen.until_due
        self._rest(session, min(self._settings.polling_interval, until_due, until_free))

    def _rest(self, session: Session, seconds: float) -> None:
        try:
            with session.waiting(seconds):
                session.query("SELECT SLEEP(%s)", (seconds,))
        except Interrupted:
            return

    def forget(self) -> None:
        """Suspect nobody any more: while this session was away, those of others may have been."""
        self._suspected_since = {}

    def _take_back(self, session: Session, jobs: JobTable, others: set[str]) -> float:
        """Release what each consumer has whose lock has been free for the grace.

        Returns:
            Seconds until the grace of the next one is over, infinite when all live.
        """
        now, grace = time.monotonic(), self._settings.recovery_grace
        locks: dict[str, str] = {self._names.consumer(owner): owner for owner in others}
        suspects = [locks[name] for name in free_among(session, list(locks))]
        self._suspected_since = {owner: self._suspected_since.get(owner, now) for owner in suspects}
        queues = EphemeralQueues(session, self._settings.table, names=self._names)
        registry = Registry(session, self._settings.table)
        for owner, since in self._suspected_since.items():
            if now - since >= grace:
                released = jobs.release_claims_of(owner, self._settings.max_deliveries)
                queues.leave_those_of(owner)
                registry.remove(owner)
                if released:
                    logger.warning("Consumer %r is dead; %d jobs go back.", owner, released)
        left = [since + grace - now for since in self._suspected_since.values()]
        return min((seconds for seconds in left if seconds > 0), default=math.inf)

    def _tidy(self, session: Session, jobs: JobTable) -> None:
        queues = EphemeralQueues(session, self._settings.table, names=self._names)
        queues.delete_expired()
        jobs.sum_up_throughput()
        self._gaps_after = jobs.fill_gaps(self._gaps_after)
        if self._settings.retention_seconds:
            while jobs.remove_finished(self._settings.retention_seconds):
                pass
