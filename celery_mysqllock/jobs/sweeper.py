"""The housekeeping that one consumer of a namespace does for all of them."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from celery_mysqllock.exceptions import Interrupted
from celery_mysqllock.jobs.ephemeral import EphemeralQueues
from celery_mysqllock.jobs.table import JobTable
from celery_mysqllock.mysql import is_free, lock_name

if TYPE_CHECKING:
    from celery_mysqllock.mysql import Session
    from celery_mysqllock.settings import BrokerSettings

logger = logging.getLogger(__name__)

# Seconds between two removals of ephemeral queues and of finished jobs.
_TIDY = 5.0


class Sweeper:
    """Promotes what is due, rings for what nobody rang for, takes back what the dead had claimed.

    Args:
        settings: The broker's settings.
        namespace: The first part of the locks' names.
    """

    def __init__(self, settings: BrokerSettings, namespace: str) -> None:
        self._settings = settings
        self._namespace = namespace
        self._suspected_since: dict[str, float] = {}
        self._next_look = 0.0
        self._next_tidying = 0.0

    def step(self, session: Session, identity: str) -> None:
        """Do one round, then sleep until the next or until something is due.

        Args:
            session: The session that holds the sweeper's lock; who schedules a job rings it.
            identity: The consumer that this is.

        Raises:
            ConnectionLost: The session has ended.
        """
        jobs = JobTable(session, self._settings.table, namespace=self._namespace)
        while jobs.promote():
            pass
        jobs.ring_for_ready()
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + self._settings.recovery_grace / 3
            self._take_back(session, jobs, identity)
        if now >= self._next_tidying:
            self._next_tidying = now + _TIDY
            self._tidy(session, jobs)
        due = jobs.seconds_until_due()
        pause = self._settings.polling_interval
        try:
            session.query("SELECT SLEEP(%s)", (pause if due is None else min(pause, due),))
        except Interrupted:
            return

    def forget(self) -> None:
        """Suspect nobody any more: while this session was away, those of others may have been."""
        self._suspected_since = {}

    def _take_back(self, session: Session, jobs: JobTable, identity: str) -> None:
        """Release what each consumer has whose lock has been free for the grace."""
        queues = EphemeralQueues(session, self._settings.table, namespace=self._namespace)
        now = time.monotonic()
        self._suspected_since = {
            owner: self._suspected_since.get(owner, now)
            for owner in (jobs.owners() | queues.owners()) - {identity}
            if is_free(session, lock_name(self._namespace, "consumer", owner))
        }
        for owner, since in self._suspected_since.items():
            if now - since >= self._settings.recovery_grace:
                released = jobs.release_claims_of(owner, self._settings.max_deliveries)
                queues.leave_those_of(owner)
                if released:
                    logger.warning("Consumer %s is dead; %d jobs go back.", owner, released)

    def _tidy(self, session: Session, jobs: JobTable) -> None:
        queues = EphemeralQueues(session, self._settings.table, namespace=self._namespace)
        queues.delete_expired()
        if self._settings.retention_seconds:
            while jobs.remove_finished(self._settings.retention_seconds):
                pass
