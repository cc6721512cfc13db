"""Publishing: storing jobs in the table, and waking the consumers that they concern."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Protocol

from celery_mysqllock.exceptions import DatabaseError, MissingPrivilege
from celery_mysqllock.jobs.new_job import Insertion, check_stored
from celery_mysqllock.jobs.ordering import slots
from celery_mysqllock.jobs.retry import retried
from celery_mysqllock.jobs.ringer import Ringer
from celery_mysqllock.mysql import Script, wake

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from celery_mysqllock.jobs.lock_names import LockNames
    from celery_mysqllock.jobs.new_job import NewJob
    from celery_mysqllock.jobs.ordering import Ordering
    from celery_mysqllock.jobs.unique import UniqueKeys
    from celery_mysqllock.mysql import Session, Statements


class JobSink(Protocol):
    """What takes the jobs of a message: a publisher, or one that stores them later."""

    def put_each(self, jobs: Sequence[NewJob]) -> None:
        """Store jobs, at least one; only the first may have a unique key."""


class Publisher:
    """Stores jobs through one session.

    Args:
        session: An open session.
        sql: The statements of the job table.
        names: The names of the table's locks.
        ordering: Unblocks jobs of an order key, on the same session.
        unique_keys: Stores jobs with a unique key, on the same session.
    """

    def __init__(
        self,
        session: Session,
        sql: Statements,
        names: LockNames,
        *,
        ordering: Ordering,
        unique_keys: UniqueKeys,
    ) -> None:
        self._session = session
        self._sql = sql
        self._names = names
        self._ringer = Ringer(session, names)
        self._ordering = ordering
        self._unique_keys = unique_keys

    def put(self, job: NewJob) -> int:
        """Store a job and ring for an idle consumer, in one round trip.

        When this returns, the job is committed.

        Returns:
            The job's id.

        Raises:
            SettingsError: The queue's name or a key is too long.
            JobExists: A job has the unique key, and nothing was stored.
            MessageTooLarge, ServerFull, ReadOnlyServer, ConnectionLost: It was not stored; after
                ConnectionLost it may have been, as with any broker.
        """
        insertion = Insertion.of(job, self._names)
        if job.unique is not None:
            stored = self._unique_keys.insert(insertion, must_store=job.unique.must_store)
        elif job.is_blocked:
            return self._put_ordered(insertion)
        else:
            stored = retried(lambda: insertion.run(self._session, self._sql), self._names.table)
        wake(self._session, stored.selected)
        if job.order is not None and job.is_blocked:
            self._ordering.unblock([job.order.text])
        return stored.row_id

    def _put_ordered(self, insertion: Insertion) -> int:
        """Store a job with an order key, and ring when it may run at once; the job's id."""
        values = insertion.values
        ordering = {
            "slot": slots([values["order_key"]])[0],
            "too_many": values["order_limit"] + 1,
        }

        def once() -> tuple[int, int | None]:
            script = Script(self._session)
            script.add("BEGIN")
            stored = script.add(self._sql["put_ordered"], **values, **ordering)
            unblocked = script.add(self._sql["unblock_new"], **values, **ordering)
            script.add("COMMIT")
            row_id = script.add(self._sql["last_id"])
            sleeper = script.add(self._sql["find_sleeper"], **values)
            with self._session.exclusive():
                script.run()
            check_stored(stored.changed)
            return row_id.rows[0][0], sleeper.rows[0][0] if unblocked.changed else None

        job_id, sleeper = retried(once, self._names.table)
        wake(self._session, sleeper)
        return job_id

    def put_each(self, jobs: Sequence[NewJob]) -> None:
        """Store jobs and ring for each: in one transaction, all or none. Errors as in ``put``.

        Args:
            jobs: At least one. Only the first may have a unique key: it is committed by itself, so
                that the next attempt after an error finds the key and stores nothing twice.
        """
        first, *others = jobs
        if first.unique is not None or not others:
            self.put(first)
        else:
            others = list(jobs)
        if others:
            retried(lambda: self._store_each(others))
        self.announce(others)

    def _store_each(self, jobs: Sequence[NewJob]) -> None:
        with self._session.exclusive():
            self._session.execute("BEGIN")
            try:
                for job in jobs:
                    self.store(job)
                self._session.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(DatabaseError):
                    self._session.execute("ROLLBACK")
                raise

    def store(self, job: NewJob) -> None:
        """Store a job in the session's open transaction; to be announced once that is committed.

        What the server rolls back takes the transaction with it, so nothing is tried again here.

        Raises:
            JobExists: A job has the unique key; the transaction is still open.
        """
        insertion = Insertion.of(job, self._names)
        if job.unique is None:
            insertion.run(self._session, self._sql)
        else:
            self._unique_keys.insert_once(insertion)

    def announce(self, jobs: Collection[NewJob]) -> None:
        """Wake the consumers that stored jobs concern, and unblock those that may run.

        To be called once they are committed: a consumer that wakes before that sees no job.
        """
        now = [job for job in jobs if job.delay is None]
        self._ringer.ring_each({job.queue for job in now if job.order is None})
        if len(now) < len(jobs):
            self._ringer.ring_sweeper()
        self._ordering.unblock([job.order.text for job in now if job.order is not None])

    def check_writable(self) -> None:
        """Do nothing when the server takes writes, or does not say so to this user.

        Raises:
            ReadOnlyServer: It takes none.
        """
        # a producer may have no more than INSERT
        with contextlib.suppress(MissingPrivilege):
            self._session.execute(self._sql["change_nothing"])
