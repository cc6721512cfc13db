"""Unique jobs: no two rows of the table have the same key, and what to do when one has it already.

A key is in the column ``unique_key``, below a unique index, for as long as its job has a claim on
it: ``queued:...`` until the job is claimed, ``until_done:...`` until it is acked or dead. Whoever
ends that, frees the key in the same statement.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from celery_mysqllock.exceptions import (
    DuplicateKey,
    JobExists,
    RowsLocked,
    SettingsError,
    TransientError,
)
from celery_mysqllock.jobs.job import TASK_ID_LIMIT
from celery_mysqllock.jobs.retry import PATIENCE, explained, retried
from celery_mysqllock.mysql import Inserted

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from celery_mysqllock.mysql import Session, Statements

QUEUED, UNTIL_DONE = "queued", "until_done"
#: For how long a job may be the only one of its key.
UNIQUE_KINDS = (QUEUED, UNTIL_DONE)

_KEY_LIMIT = 255
_READABLE = 190
# The column is exact ASCII; but a comparison takes no notice of spaces at the end.
_PLAIN = re.compile(r"[ -}]*[!-}]")
_DEQUEUED = 1
# Seconds for which a key is asked for while many ask at the moment it becomes free, and the server
# ends their deadlocks.
_PATIENCE = 60.0
# Most seconds until it is asked for again after a deadlock: so that they do not meet again.
_PAUSE = 0.02
# How often a key may have been freed between an INSERT and the look who has it.
_CHANGES = 5


def _bear(error: TransientError, waited: float) -> None:
    """Do nothing, or wait a moment, when the INSERT is to be tried again; raise otherwise."""
    if isinstance(error, RowsLocked):
        if waited > PATIENCE:
            raise explained(error, waited) from error
        return
    if waited > _PATIENCE:
        raise error
    time.sleep(random.uniform(0, _PAUSE))  # noqa: S311 - spreads load, keeps no secret


@dataclass(frozen=True)
class UniqueKey:
    """What makes a job the only one.

    Attributes:
        text: What no two jobs have at a time; from ``unique_key``.
        must_store: Store the job in any case, without the key when another task's job has it. For a
            job whose task id somebody has already: a retry, or a part of a chain.
    """

    text: str
    must_store: bool = False


class _Holder(NamedTuple):
    job_id: int
    task_id: str | None
    created_at: datetime
    job_status: int
    is_over: bool


def _exists(holder: _Holder, values: Mapping[str, Any]) -> JobExists:
    return JobExists(
        f"Job {holder.job_id} has the unique key {values['unique_key']!r}.",
        job_id=holder.job_id,
        task_id=holder.task_id,
        created_at=holder.created_at,
    )


def unique_key(kind: str, key: str) -> str:
    """What stands in the column for a key: readable, and hashed where that would not be exact."""
    exact = f"{kind}:{key}"
    if len(exact) <= _KEY_LIMIT and _PLAIN.fullmatch(exact):
        return exact
    digest = hashlib.sha256(exact.encode("utf-8", "surrogatepass")).hexdigest()
    readable = re.sub(r"[^!-}]+", "_", exact)
    return f"{readable[:_READABLE]}~{digest}"


class UniqueJobs:
    """Stores jobs that have a key, and frees keys.

    Args:
        session: An open session.
        sql: The statements of the job table.
        looks_first: Whether to look for a job that has the key before the INSERT. One that fails
            locks the key until the end of its transaction, where that is somebody else's.
    """

    def __init__(self, session: Session, sql: Statements, *, looks_first: bool = False) -> None:
        self._session = session
        self._sql = sql
        self._looks_first = looks_first

    def insert(self, statement: str, values: Mapping[str, Any], *, must_store: bool) -> Inserted:
        """Store a job with its key, in one round trip when nobody has the key.

        A job of the same task that has the key is the very same one, stored by an attempt whose
        answer was lost; or, when it has been claimed, the one that sends its own retry, which takes
        the key over in one transaction.

        Args:
            statement: The name of an INSERT and a SELECT of who is to be rung.
            values: Their parameters, with ``task_id`` and ``unique_key``.
            must_store: As in ``UniqueKey``.

        Raises:
            JobExists: Another task's job has the key.
            SettingsError: The job has no task id by which others could know it.
            RowsLocked: For 10 seconds somebody's open transaction has had the key.
            TransientError: For a minute a crowd has had it.
        """
        if values["task_id"] is None:
            raise SettingsError(
                f"A unique job needs a task id, of {TASK_ID_LIMIT} characters at most."
            )
        began = time.monotonic()
        if self._looks_first:
            stored = self._meet_holder(statement, values, must_store=must_store)
            if stored is not None:
                return stored
        while True:
            try:
                return self._session.insert(self._sql[statement], values)
            except DuplicateKey:
                pass
            except TransientError as error:
                _bear(error, time.monotonic() - began)
            stored = self._meet_holder(statement, values, must_store=must_store)
            if stored is not None:
                return stored

    def _meet_holder(
        self, statement: str, values: Mapping[str, Any], *, must_store: bool
    ) -> Inserted | None:
        """Do what there is to do when a job has the key; None to try the INSERT again."""
        holder = self._holder(values)
        if holder is None:  # it has ended meanwhile
            return None
        found = {**values, "holder": holder.job_id, "holder_status": holder.job_status}
        if holder.is_over:
            retried(lambda: self._session.execute(self._sql["free_unique"], found))
            return None
        if holder.task_id is not None and holder.task_id == values["task_id"]:
            if must_store and holder.job_status == _DEQUEUED:
                return retried(lambda: self._take_over(statement, found))
            return Inserted(rows=1, row_id=holder.job_id, number=None)
        if must_store:
            keyless = {**values, "unique_key": None}
            return retried(lambda: self._session.insert(self._sql[statement], keyless))
        raise _exists(holder, values)

    def insert_once(self, statement: str, values: Mapping[str, Any]) -> Inserted:
        """As ``insert``, in the transaction that is open, which the server may roll back.

        Raises:
            JobExists: A job has the key.
            TransientError: The key changes hands; try the transaction again.
        """
        for _ in range(_CHANGES):
            # an error for the statement alone: the transaction goes on
            with contextlib.suppress(DuplicateKey):
                return self._session.insert(self._sql[statement], values)
            holder = self._holder(values)
            if holder is not None and not holder.is_over:
                raise _exists(holder, values)
            if holder is not None:
                found = {"holder": holder.job_id, "holder_status": holder.job_status}
                self._session.execute(self._sql["free_unique"], {**values, **found})
        raise TransientError(f"The unique key {values['unique_key']!r} changes hands all the time.")

    def _holder(self, values: Mapping[str, Any]) -> _Holder | None:
        rows = self._session.query(self._sql["find_unique"], values)
        return _Holder(*rows[0]) if rows else None

    def _take_over(self, statement: str, values: Mapping[str, Any]) -> Inserted | None:
        """Free the key and store the job with it, and nobody can come in between; None if one has.

        Who is to be rung is asked again after the commit.
        """
        find_whom_to_ring = self._sql[statement].rpartition(";")[2]
        try:
            with self._session.undivided():
                self._session.script(f"BEGIN; {self._sql['free_unique']}", values)
                stored = self._session.insert(self._sql[statement], values)
                _, rows = self._session.script(f"COMMIT; {find_whom_to_ring}", values)
        except DuplicateKey:
            return None
        return stored._replace(number=rows[0][0])

    def free_those_of(self, task_ids: Collection[str]) -> int:
        """Free the keys of these tasks' jobs that nobody has claimed; returns how many.

        Reads all rows that have a key.
        """
        values = {"task_ids": list(task_ids)}
        found = self._session.query(self._sql["find_unique_of"], values) if task_ids else []
        if not found:
            return 0
        ids = {"ids": [row[0] for row in found]}
        return retried(lambda: self._session.execute(self._sql["free_unique_of"], ids))
