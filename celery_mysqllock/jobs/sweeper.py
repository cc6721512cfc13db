"""The housekeeping that one consumer of a job table does for all of them."""

from __future__ import annotations

import logging
import math
import time
from functools import partial
from typing import TYPE_CHECKING

from celery_mysqllock.exceptions import ConnectionLost, Interrupted, MySQLLockError
from celery_mysqllock.jobs.ephemeral import EphemeralQueues
from celery_mysqllock.jobs.events import (
    BecameSweeper,
    ConsumerDied,
    QueuePaused,
    QueueResumed,
    Unobserved,
)
from celery_mysqllock.jobs.registry import Registry
from celery_mysqllock.jobs.repeated import RepeatedWarnings
from celery_mysqllock.jobs.retry import hasty
from celery_mysqllock.jobs.table import JobTable
from celery_mysqllock.mysql import free_among

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_mysqllock.jobs.events import Observer
    from celery_mysqllock.jobs.lock_names import LockNames
    from celery_mysqllock.mysql import Session
    from celery_mysqllock.settings import BrokerSettings

logger = logging.getLogger(__name__)

# Seconds between two removals of ephemeral queues and of finished jobs, and between two searches
# for order keys of which no job runs although some wait.
_TIDY = 5.0


class Sweeper:
    """Queues what is due, rings for jobs whose publisher did not, takes back claims of the dead.

    Args:
        settings: The broker's settings.
        names: The names of the table's locks.
        observer: Is told what happens to jobs, consumers and queues.
    """

    def __init__(
        self, settings: BrokerSettings, names: LockNames, observer: Observer | None = None
    ) -> None:
        self._settings = settings
        self._names = names
        self._observer = observer or Unobserved()
        # None until it is known which are
        self._paused_queues: set[str] | None = None
        self._suspected_since: dict[str, float] = {}
        self._next_tidying = 0.0
        self._gaps_after = ""
        self._warnings = RepeatedWarnings(logger)

    def begin(self, identity: str) -> None:
        """That consumer has become the sweeper."""
        self._paused_queues = None
        self._observer.tell(BecameSweeper(identity))

    def step(self, session: Session, identity: str) -> None:
        """Do one round, then sleep until the next or until something is due.

        A round in which there is nothing to do is one statement, and one more when there are other
        consumers.

        Args:
            session: The session that holds the sweeper's lock; a scheduled job's publisher rings
                it.
            identity: The consumer that this is.

        Raises:
            ConnectionLost: The session has ended.
        """
        jobs = JobTable(
            session,
            self._settings.table,
            names=self._names,
            claim_method=self._settings.claim_method,
            observer=self._observer,
        )
        with hasty():
            until = self._round(session, jobs, identity)
        self._rest(session, until)

    def _round(self, session: Session, jobs: JobTable, identity: str) -> float:
        """Do what there is to do; returns the seconds until the next round."""
        seen = jobs.maintenance.survey()
        if seen.is_due:
            self._try("queue scheduled jobs", lambda: self._promote(jobs))
            seen = jobs.maintenance.survey()
        # a program that only INSERTs does not ring
        self._try("ring for what is ready", partial(jobs.ringer.ring_each, seen.ready_queues))
        self._tell_paused(seen.paused_queues)
        others = (seen.owners | seen.consumers) - {identity}
        until_free = self._take_back(session, jobs, others)
        if time.monotonic() >= self._next_tidying:
            self._next_tidying = time.monotonic() + _TIDY
            self._tidy(session, jobs)
        # A job that is due and was not promoted is locked, or was changed by hand: it must not keep
        # this awake.
        until_due = math.inf if seen.is_due else seen.until_due
        return min(self._settings.polling_interval, until_due, until_free)

    def _tell_paused(self, paused: set[str]) -> None:
        before = paused if self._paused_queues is None else self._paused_queues
        for queue in sorted(paused - before):
            self._observer.tell(QueuePaused(queue))
        for queue in sorted(before - paused):
            self._observer.tell(QueueResumed(queue))
        self._paused_queues = paused

    def _promote(self, jobs: JobTable) -> None:
        while jobs.maintenance.promote():
            pass

    def _try(self, what: str, do: Callable[[], object]) -> None:
        """Do one thing of many: its error stops no other.

        Raises:
            ConnectionLost: The session has ended.
        """
        try:
            do()
        except ConnectionLost:
            raise
        except MySQLLockError as error:
            self._warnings.warn("The housekeeping could not %s: %s", what, error)

    def _rest(self, session: Session, seconds: float) -> None:
        try:
            with session.extend_timeout(seconds):
                session.query("SELECT SLEEP(%s)", (seconds,))
        except Interrupted:
            return

    def forget(self) -> None:
        """Begin all graces anew: while this session was lost, those of others may have been."""
        self._suspected_since = {}

    def _take_back(self, session: Session, jobs: JobTable, others: set[str]) -> float:
        """Release the claims of each consumer whose lock has been free for the grace.

        Returns:
            Seconds until the next grace is over, infinite when all live.
        """
        now, grace = time.monotonic(), self._settings.recovery_grace
        locks: dict[str, str] = {self._names.consumer(owner): owner for owner in others}
        suspects = [locks[name] for name in free_among(session, list(locks))]
        self._suspected_since = {owner: self._suspected_since.get(owner, now) for owner in suspects}
        queues = EphemeralQueues(session, self._settings.table, names=self._names)
        registry = Registry(session, self._settings.table)
        for owner, since in self._suspected_since.items():
            if now - since >= grace:
                give_back = partial(self._bury_consumer, jobs, queues, registry, owner)
                self._try(f"give back what the consumer {owner!r} had claimed", give_back)
        left = [since + grace - now for since in self._suspected_since.values()]
        return min((seconds for seconds in left if seconds > 0), default=math.inf)

    def _bury_consumer(
        self, jobs: JobTable, queues: EphemeralQueues, registry: Registry, owner: str
    ) -> None:
        """Give back what a dead consumer had, and take it off the list."""
        recovered = jobs.maintenance.recover_claims_of(owner, self._settings.max_deliveries)
        queues.leave_those_of(owner)
        # another round may follow, for rows that are locked in this one
        if registry.remove(owner) or recovered:
            self._observer.tell(ConsumerDied(owner, recovered))

    def _tidy(self, session: Session, jobs: JobTable) -> None:
        queues = EphemeralQueues(session, self._settings.table, names=self._names)
        self._try("delete expired queues and messages", queues.delete_expired)
        self._try("sum up the throughput", jobs.maintenance.sum_up_throughput)
        self._try("look for lines that stand still", lambda: self._fill_gaps(jobs))
        self._try("remove finished jobs", lambda: self._remove_finished(jobs))

    def _fill_gaps(self, jobs: JobTable) -> None:
        self._gaps_after = jobs.ordering.unblock_stalled(self._gaps_after)

    def _remove_finished(self, jobs: JobTable) -> None:
        if self._settings.retention_seconds:
            while jobs.maintenance.remove_finished(self._settings.retention_seconds):
                pass
