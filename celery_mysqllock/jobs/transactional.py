"""Publishing in a caller's transaction: jobs that exist if and only if that transaction commits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from celery_mysqllock.jobs.new_job import Insertion
from celery_mysqllock.jobs.unique import UniqueKeys
from celery_mysqllock.mysql.caller import CallerWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from celery_mysqllock.jobs.lock_names import LockNames
    from celery_mysqllock.jobs.new_job import NewJob
    from celery_mysqllock.mysql import Session, Statements
    from celery_mysqllock.mysql.caller import CallerConnection


class TransactionalPublisher:
    """Stores jobs that exist if and only if a caller's transaction commits.

    Args:
        caller: The connection whose transaction that is.
        session: An open session of ours on the job table's server and database.
        sql: The statements of the job table, with its database: the caller's connection may use
            another one.
        names: The names of the table's locks.
        on_commit: Called after each commit with the jobs that it stored, without their messages.
    """

    def __init__(
        self,
        caller: CallerConnection,
        session: Session,
        sql: Statements,
        names: LockNames,
        *,
        on_commit: Callable[[Sequence[NewJob]], None],
    ) -> None:
        self._caller = caller
        self._session = session
        self._sql = sql
        self._names = names
        self._writer = CallerWriter(caller, session)
        self._unique_keys = UniqueKeys(session, sql, self._writer)
        self._announce = on_commit
        self._stored: list[NewJob] = []

    def put_each(self, jobs: Sequence[NewJob]) -> None:
        """Store jobs when the transaction commits, and ring after that.

        Raises:
            TransactionError: The connection is in no transaction, on another server, or has rows
                that are not read yet.
            MessageTooLarge: The server would not read so much; the transaction goes on.
            JobExists: A job has the unique key; the transaction goes on.
        """
        for job in jobs:
            self._caller.check()
            with self._caller.keeping_insert_id():
                self._caller.check_server(self._session)
                self._caller.after_commit(self._on_commit)
                self._store(job)
            self._stored.append(replace(job, message=""))

    def _store(self, job: NewJob) -> None:
        insertion = Insertion.of(job, self._names)
        if job.unique is None:
            insertion.run(self._writer, self._sql)
        else:
            self._unique_keys.insert(insertion, must_store=job.unique.must_store)

    def _on_commit(self) -> None:
        stored, self._stored = self._stored, []
        if stored:
            self._announce(stored)
