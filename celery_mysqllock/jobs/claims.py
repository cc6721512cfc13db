"""Claims: taking jobs out of the table for a consumer, and settling them, in few transactions."""

from __future__ import annotations

import contextlib
import logging
import random
from dataclasses import replace
from typing import TYPE_CHECKING

from celery_mysqllock.exceptions import ConnectionLost, MySQLLockError, RowsLocked, TransientError
from celery_mysqllock.jobs.claim_strategies import Claim
from celery_mysqllock.jobs.counted import counted
from celery_mysqllock.jobs.events import JobClaimed, JobDead
from celery_mysqllock.jobs.job import HIGHEST_PRIORITY, ClaimedJob, Settlement
from celery_mysqllock.jobs.legacy import among_older_programs
from celery_mysqllock.jobs.reason import fitting
from celery_mysqllock.jobs.retry import MOST_WAITS, PATIENCE, retried
from celery_mysqllock.jobs.ringer import Ringer
from celery_mysqllock.jobs.throughput import Throughput
from celery_mysqllock.mysql import Script

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from celery_mysqllock.jobs.claim_strategies import ClaimStrategy
    from celery_mysqllock.jobs.events import Observer
    from celery_mysqllock.jobs.job import Deferral, Destination
    from celery_mysqllock.jobs.lock_names import LockNames
    from celery_mysqllock.jobs.ordering import Ordering
    from celery_mysqllock.mysql import ScriptResult, Session, Statements

logger = logging.getLogger(__name__)


class Claims:
    """Claims jobs for a consumer and settles them, through one session.

    A statement that the server rolled back (deadlock, lock wait) is sent again. Each claim is
    fenced by its owner: what another consumer has meanwhile is never touched.

    Args:
        session: An open session.
        sql: The statements of the job table.
        names: The names of the table's locks.
        ordering: Unblocks the next jobs of a key, on the same session.
        strategy: How to claim.
        observer: Is told which jobs are claimed or dead.
        retains: Whether acked jobs stay as finished.
        legacy_lock: The lock round which older programs take jobs, None where there are none.
        throughput: Counts the jobs that end; shared by all that claim for one owner.
    """

    def __init__(  # noqa: PLR0913 - each is named at the call
        self,
        session: Session,
        sql: Statements,
        names: LockNames,
        *,
        ordering: Ordering,
        strategy: ClaimStrategy,
        observer: Observer,
        retains: bool = False,
        legacy_lock: str | None = None,
        throughput: Throughput | None = None,
    ) -> None:
        self._session = session
        self._sql = sql
        self._table = names.table
        self._ringer = Ringer(session, names)
        self._ordering = ordering
        self._strategy = strategy
        self._observer = observer
        self._retains = retains
        self._legacy_lock = legacy_lock
        self._throughput = Throughput() if throughput is None else throughput

    # -- settling and claiming together -----------------------------------------------------------

    def settle_and_claim(  # noqa: PLR0913 - the last ones are named at the call
        self,
        settled: Settlement,
        owner: str,
        queue: str | None = None,
        limit: int = 0,
        *,
        starts: int | None = 0,
        skip_locked: bool = False,
        patience: float = PATIENCE,
    ) -> list[ClaimedJob]:
        """Settle claimed jobs and claim others, in one transaction and two round trips.

        Where ordered jobs have ended, the next of their keys are unblocked in the same transaction.

        Args:
            settled: What is to become of jobs that were claimed before.
            owner: The consumer's identity.
            queue: The queue to claim from, None to claim nothing.
            limit: Most jobs to claim.
            starts: How many of them begin at once, so that their delivery counts; None for all. A
                job that came back from a dead consumer begins only in the case of None.
            skip_locked: Leave the next job of a key alone while another transaction has it or its
                key locked; the sweeper unblocks it later. Counts of ended jobs are written later.
            patience: Seconds to wait for rows that another transaction has locked.

        Returns:
            The claimed jobs, in the order of the queue.

        Raises:
            RowsLocked: Another transaction has locked what is to be settled; see ``locked_among``.
        """
        ended = self._throughput.take(settled)
        if skip_locked:
            self._throughput.put_back(ended)
            ended = {}
        claim = None if queue is None or limit <= 0 else Claim(owner, queue, limit, starts)

        def run(ended: Mapping[str, int]) -> tuple[list[ClaimedJob], set[str]]:
            lock = None if claim is None else self._legacy_lock
            with among_older_programs(self._session, lock) as may_claim:
                allowed = claim if may_claim else None
                return retried(
                    lambda: self._run(settled, owner, allowed, ended, skip_locked=skip_locked),
                    self._table,
                    patience,
                )

        try:
            claimed, queues = run(ended)
        except (ConnectionLost, TransientError):
            self._throughput.put_back(ended)
            raise
        except MySQLLockError as error:
            if not ended:
                raise
            # operators read the counts: a table of counts that is missing or forbidden stops no job
            claimed, queues = run({})
            self._throughput.give_up(error)
        except BaseException:
            self._throughput.put_back(ended)
            raise
        self._throughput.note(claimed)
        self._ringer.ring_each(queues)
        if self._observer.wants(JobClaimed):
            for job in claimed:
                self._observer.tell(
                    JobClaimed(job.id, job.task_id, job.queue, job.deliveries, owner)
                )
        return claimed

    def _run(
        self,
        settled: Settlement,
        owner: str,
        claim: Claim | None,
        ended: Mapping[str, int],
        *,
        skip_locked: bool,
    ) -> tuple[list[ClaimedJob], set[str]]:
        """The claimed jobs, and the queues of unblocked jobs that are not among them."""
        keys = list(settled.ended_keys.values())
        if skip_locked and not self._strategy.can_skip_locked:
            # an old server would wait: the sweeper unblocks them instead
            keys = []
        with self._session.exclusive():
            script = Script(self._session)
            script.add("BEGIN")
            settlements = self._settle(script, settled, owner)
            for counted_queue, jobs in ended.items():
                script.add(
                    self._sql["add_throughput"], queue=counted_queue, ended=jobs, owner=owner
                )
            unblocked = self._ordering.unblock_in(script, keys, skip_locked=skip_locked)
            if claim is None:
                script.add("COMMIT")
                script.run()
                claimed = []
            else:
                claimed = self._claim(script, claim)
        self._check(settled, settlements)
        for (job_id, reason), burial in zip(settled.buried, settlements, strict=False):
            if burial.changed:
                self._observer.tell(JobDead(job_id, fitting(reason), owner))
        taken = {job.id for job in claimed}
        return claimed, {queue for job_id, queue in unblocked if job_id not in taken}

    def _settle(self, script: Script, settled: Settlement, owner: str) -> list[ScriptResult]:
        """Add the statements that settle jobs; each is to change the jobs that it is for.

        Returns:
            The result of each statement, those of burials first.
        """
        if settled.started:
            # those that have begun may have been counted before, so the number of rows says nothing
            script.add(self._sql["start"], ids=settled.started, owner=owner)
        done = self._sql["finish" if self._retains else "ack"]
        several = ((done, settled.acked), (self._sql["release"], settled.released))
        lists = [script.add(sql, ids=ids, owner=owner) for sql, ids in several if ids]
        burials = [
            script.add(self._sql["bury"], id=job_id, reason=fitting(reason), owner=owner)
            for job_id, reason in settled.buried
        ]
        return [
            *burials,
            *lists,
            *(
                script.add(
                    self._sql["defer"],
                    id=job.job_id,
                    seconds=job.seconds,
                    counts=job.counts,
                    is_unknown=job.is_unknown,
                    owner=owner,
                )
                for job in settled.deferred
            ),
        ]

    def _check(self, settled: Settlement, settlements: Sequence[ScriptResult]) -> None:
        """Say that claims were lost, where statements changed fewer jobs than they were for."""
        lists = (settled.acked, settled.released, settled.buried, settled.deferred)
        asked = sum(len(jobs) for jobs in lists)
        missing = asked - sum(settlement.changed for settlement in settlements)
        if missing:
            logger.warning(
                "Of %s settled, %d had been given back while this consumer seemed dead, and may "
                "run again.",
                counted(asked, "job"),
                missing,
            )

    def _claim(self, script: Script, claim: Claim) -> list[ClaimedJob]:
        """Claim jobs in the open transaction, and commit it."""
        found = self._strategy.find(script, claim)
        script.run()
        rows, started = self._strategy.take(script, found.rows, claim)
        return [
            replace(
                ClaimedJob(*row[:-1]),
                # as it was asked for: a row may spell it with spaces at its end
                queue=claim.queue,
                is_started=row[0] in started,
                has_expired=bool(row[-1]),
            )
            for row in rows
        ]

    def keep_alive(self, owner: str) -> None:
        """Keep the session alive; counts of ended jobs that are left are written with it."""
        if self._throughput.is_pending:
            # written later where another transaction has the count locked
            with contextlib.suppress(RowsLocked):
                self.settle_and_claim(Settlement(), owner, patience=0.0)
        else:
            self._session.ping()

    # -- one at a time ----------------------------------------------------------------------------

    def claim(self, queue: str, limit: int, owner: str) -> list[ClaimedJob]:
        """Claim up to ``limit`` jobs, in the order of the queue; all of them begin.

        What has expired is not among them, and is gone.
        """
        while True:
            jobs = self.settle_and_claim(Settlement(), owner, queue, limit, starts=None)
            expired = [job.id for job in jobs if job.has_expired]
            if expired:
                self.ack(expired, owner)
            worth_it = [job for job in jobs if not job.has_expired]
            if worth_it or not expired:
                return worth_it

    def ack(self, ids: Collection[int], owner: str) -> None:
        """The jobs are done: their rows go, or stay as finished where they are retained."""
        keys = self._ordering.keys_of(ids)
        self.settle_and_claim(Settlement(acked=list(ids), ended_keys=keys), owner)

    def bury(self, job_id: int, owner: str, reason: str) -> None:
        """Keep a claimed job as dead, with the reason."""
        keys = self._ordering.keys_of([job_id])
        self.settle_and_claim(Settlement(buried=[(job_id, reason)], ended_keys=keys), owner)

    def defer(self, job: Deferral, owner: str) -> None:
        """Give a claimed job back to its queue after a while, in the same place."""
        started = [job.job_id] if job.counts else []
        self.settle_and_claim(Settlement(started=started, deferred=[job]), owner)
        if job.seconds:
            self._ringer.ring_sweeper()
        else:
            self._ring_for([job.job_id])

    def release(self, ids: Collection[int], owner: str) -> None:
        """Give claimed jobs back to their queues as they were, and ring."""
        self.settle_and_claim(Settlement(released=list(ids)), owner)
        self._ring_for(ids)

    def _ring_for(self, ids: Collection[int]) -> None:
        queues = self._session.query(self._sql["queues_of"], {"ids": list(ids)})
        self._ringer.ring_each({queue for (queue,) in queues})

    def release_others(self, kept: Collection[int], owner: str) -> int:
        """Give back everything that the owner has claimed, except these jobs; returns how many."""
        return self._change("release_others", owner=owner, kept=[0, *kept])

    def reroute(self, job_id: int, owner: str, destination: Destination) -> None:
        """Give a claimed job to the queue or the time where it belongs, and ring there."""
        priority = destination.priority
        self._change(
            "reroute",
            id=job_id,
            owner=owner,
            queue=destination.queue,
            claim_order=None if priority is None else HIGHEST_PRIORITY - priority,
            delay=destination.delay,
        )
        if destination.delay is None:
            self._ringer.ring_each({destination.queue})
        else:
            self._ringer.ring_sweeper()

    def _change(self, statement: str, **values: object) -> int:
        return retried(lambda: self._session.execute(self._sql[statement], values), self._table)

    # -- locked rows ------------------------------------------------------------------------------

    def locked_among(self, ids: Collection[int]) -> set[int]:
        """Those of the jobs whose rows another transaction has locked just now."""
        if not ids:
            return set()
        if not self._strategy.can_skip_locked:
            return self._waited_for(ids)
        exist = self._sql["exist"]
        with self._session.exclusive():
            script = Script(self._session)
            script.add("BEGIN")
            all_rows = script.add(exist, ids=list(ids))
            free = script.add(f"{exist} {self._sql['skip_locked']}", ids=list(ids))
            script.add("COMMIT")
            script.run()
        return {row[0] for row in all_rows.rows} - {row[0] for row in free.rows}

    def _waited_for(self, ids: Collection[int]) -> set[int]:
        """Wait for each row, on a server that cannot leave out locked ones.

        After some that are locked the rest are taken for locked: others of them the next time.
        """
        locked: set[int] = set()
        left = random.sample(list(ids), len(ids))
        while left and len(locked) < MOST_WAITS:
            try:
                self._session.query(f"{self._sql['exist']} FOR UPDATE", {"ids": [left[-1]]})
            except RowsLocked:
                locked.add(left[-1])
            left.pop()
        return locked.union(left)

    def skips_locked(self, other: Session) -> bool:
        """Whether claims are safe: one session's locked rows are left out by another one.

        There are servers that speak MySQL's protocol and ignore SKIP LOCKED, or the whole locking
        clause that it is a part of.

        Args:
            other: Another session with the same server.
        """
        if not self._strategy.can_skip_locked:
            return True
        with other.exclusive():
            script = Script(other)
            script.add("BEGIN")
            locked = script.add(self._sql["lock_any_order_key"])
            script.run()
            values = {"slots": [row[0] for row in locked.rows]}
            lock = self._sql["lock_free_order_keys"]
            seen = self._session.query(lock, values) if locked.rows else []
            other.execute("COMMIT")
        return not seen
