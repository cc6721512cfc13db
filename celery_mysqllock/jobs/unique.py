"""Unique keys: no two rows of the table have the same, and what to do when one has it already.

A key is in the column ``unique_key``, under a unique index, for as long as its job is entitled to
it: ``queued:...`` until the job is claimed, ``until_done:...`` until it is acked or dead. The
statement that ends this also frees the key.

The kind is a prefix of the key and not a column of its own. It is part of what is unique, as keys
of both kinds do not exclude each other; any program may INSERT it (docs/how-to/enqueue-once.md);
and a release that does not know a new column would neither write nor read it.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import re
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from celery_mysqllock.exceptions import (
    DuplicateKey,
    JobExists,
    RowsLocked,
    SettingsError,
    TransientError,
)
from celery_mysqllock.jobs.job import TASK_ID_LIMIT
from celery_mysqllock.jobs.new_job import check_stored
from celery_mysqllock.jobs.retry import PATIENCE, explained, retried
from celery_mysqllock.mysql import Inserted, Script

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from celery_mysqllock.jobs.new_job import Insertion, Writer
    from celery_mysqllock.mysql import Session, Statements

QUEUED, UNTIL_DONE = "queued", "until_done"
#: For how long a job may be the only one of its key.
UNIQUE_KINDS = (QUEUED, UNTIL_DONE)

_KEY_LIMIT = 255
_READABLE = 190
# The column is exact ASCII; but a comparison takes no notice of spaces at the end.
_PLAIN = re.compile(r"[ -}]*[!-}]")
_DEQUEUED = 1
# Seconds for which a contended key is asked for: when many ask at the moment it becomes free, the
# server ends their deadlocks.
_PATIENCE = 60.0
# Most seconds until it is asked for again after a deadlock, so that the same do not meet again.
_PAUSE = 0.02
# How often a key may have been freed between an INSERT and the search for the job that has it.
_CHANGES = 5


def _pause(error: TransientError, waited: float) -> None:
    """Wait a moment when the INSERT is to be tried again; raise the error otherwise."""
    if isinstance(error, RowsLocked):
        if waited > PATIENCE:
            raise explained(error, waited) from error
        return
    if waited > _PATIENCE:
        raise error
    time.sleep(random.uniform(0, _PAUSE))  # noqa: S311 - spreads load, keeps no secret


def unique_key(kind: str, key: str) -> str:
    """The value of the column for a key: readable, and hashed where that would not be exact."""
    exact = f"{kind}:{key}"
    if len(exact) <= _KEY_LIMIT and _PLAIN.fullmatch(exact):
        return exact
    digest = hashlib.sha256(exact.encode("utf-8", "surrogatepass")).hexdigest()
    readable = re.sub(r"[^!-}]+", "_", exact)
    return f"{readable[:_READABLE]}~{digest}"


class _Holder(NamedTuple):
    """The job that has a key."""

    #: Where it was found, and can be changed.
    found_by: Writer
    job_id: int
    task_id: str | None
    created_at: datetime
    job_status: int
    is_over: bool


class UniqueKeys:
    """Stores jobs that have a unique key, and frees keys.

    Args:
        session: An open session.
        sql: The statements of the job table.
        caller: The connection in whose transaction jobs are stored, None for the session itself. A
            job that has the key is then looked for before the INSERT: one that fails would lock the
            key until the end of the caller's transaction.
    """

    def __init__(self, session: Session, sql: Statements, caller: Writer | None = None) -> None:
        self._session = session
        self._sql = sql
        self._caller = caller
        self._writer: Writer = session if caller is None else caller

    def insert(self, insertion: Insertion, *, must_store: bool) -> Inserted:
        """Store a job with its key, in one round trip when no job has the key.

        A job of the same task that has the key is the very same one, stored by an attempt whose
        answer was lost; or, when it has been claimed, the one that sends its own retry, which takes
        the key over in one transaction.

        Args:
            insertion: The job's, with a unique key.
            must_store: As in ``UniqueKey``.

        Raises:
            JobExists: Another task's job has the key.
            SettingsError: The job has no task id by which others could know it.
            RowsLocked: An open transaction has had the key for 10 seconds.
            TransientError: The key has been contended for a minute.
        """
        if insertion.values["task_id"] is None:
            raise SettingsError(
                f"A unique job needs a task id, of {TASK_ID_LIMIT} characters at most."
            )
        began = time.monotonic()
        is_to_look = self._caller is not None
        while True:
            if is_to_look:
                stored = self._meet_holder(insertion, must_store=must_store)
                if stored is not None:
                    return stored
            is_to_look = True
            try:
                return insertion.run(self._writer, self._sql)
            except DuplicateKey:
                pass
            except TransientError as error:
                _pause(error, time.monotonic() - began)

    def _meet_holder(self, insertion: Insertion, *, must_store: bool) -> Inserted | None:
        """Do what there is to do when a job has the key; None to try the INSERT again."""
        holder = self._holder(insertion)
        if holder is None:  # it has ended meanwhile
            return None
        if holder.is_over:
            retried(lambda: self._free(holder, insertion))
            return None
        if holder.task_id is not None and holder.task_id == insertion.values["task_id"]:
            if not must_store or holder.job_status != _DEQUEUED:
                return Inserted(rows=1, row_id=holder.job_id, selected=None)
            if self._caller is None:
                return retried(lambda: self._take_over(holder, insertion))
        if must_store:
            keyless = insertion._replace(values={**insertion.values, "unique_key": None})
            return retried(lambda: keyless.run(self._writer, self._sql))
        raise _exists(holder, insertion)

    def insert_once(self, insertion: Insertion) -> Inserted:
        """Store a job with its key in the session's open transaction.

        What the server rolls back takes the transaction with it, so nothing is tried again here.

        Raises:
            JobExists: A job has the key.
            TransientError: The key changes hands; try the transaction again.
        """
        for _ in range(_CHANGES):
            # an error for the statement alone: the transaction goes on
            with contextlib.suppress(DuplicateKey):
                return insertion.run(self._session, self._sql)
            holder = self._holder(insertion)
            if holder is not None:
                if not holder.is_over:
                    raise _exists(holder, insertion)
                self._free(holder, insertion)
        raise TransientError(
            f"The unique key {insertion.values['unique_key']!r} changes hands all the time."
        )

    def _holder(self, insertion: Insertion) -> _Holder | None:
        """The job that has the key: committed, or else stored by the caller's own transaction.

        The snapshot of that transaction may be too old to see the former.
        """
        writers = (self._session,) if self._caller is None else (self._session, self._caller)
        key = insertion.values["unique_key"]
        sought = {"unique_key": key, "until_claimed": key.startswith(f"{QUEUED}:")}
        for writer in writers:
            rows = writer.query(self._sql["find_unique"], sought)
            if rows:
                return _Holder(writer, *rows[0])
        return None

    def _free(self, holder: _Holder, insertion: Insertion) -> int:
        """Take the key from a job, at once, or with the caller's transaction if that stored it."""
        return holder.found_by.execute(self._sql["free_unique"], _freeing(holder, insertion))

    def _take_over(self, holder: _Holder, insertion: Insertion) -> Inserted | None:
        """Free the key and store the job with it in one transaction; None if another job got it."""
        script = Script(self._session)
        script.add("BEGIN")
        script.add(self._sql["free_unique"], **_freeing(holder, insertion))
        stored = script.add(self._sql["insert"], **insertion.values)
        row_id = script.add(self._sql["last_id"])
        script.add("COMMIT")
        # whom to wake is asked after the commit
        found = script.add(self._sql[insertion.find], **insertion.values)
        try:
            with self._session.exclusive():
                script.run()
        except DuplicateKey:
            return None
        check_stored(stored.changed)
        return Inserted(stored.changed, row_id.rows[0][0], found.rows[0][0])

    def free_those_of(self, task_ids: Collection[str]) -> int:
        """Free the keys of these tasks' jobs that are not claimed; returns how many.

        Reads all rows that have a key.
        """
        values = {"task_ids": list(task_ids)}
        found = self._session.query(self._sql["find_unique_of"], values) if task_ids else []
        if not found:
            return 0
        ids = {"ids": [row[0] for row in found]}
        return retried(lambda: self._session.execute(self._sql["free_unique_of"], ids))


def _freeing(holder: _Holder, insertion: Insertion) -> dict[str, Any]:
    return {
        "holder": holder.job_id,
        "holder_status": holder.job_status,
        "unique_key": insertion.values["unique_key"],
    }


def _exists(holder: _Holder, insertion: Insertion) -> JobExists:
    return JobExists(
        f"Job {holder.job_id} has the unique key {insertion.values['unique_key']!r}.",
        job_id=holder.job_id,
        task_id=holder.task_id,
        created_at=holder.created_at,
    )
