"""A job that is to be stored, and the INSERT that stores it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from celery_mysqllock.exceptions import DatabaseError
from celery_mysqllock.jobs.job import (
    HIGHEST_PRIORITY,
    LOWEST_PRIORITY,
    TASK_ID_LIMIT,
    check_key,
    check_queue_name,
)
from celery_mysqllock.jobs.lock_names import BELL_PARAMETERS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from celery_mysqllock.jobs.lock_names import LockNames
    from celery_mysqllock.jobs.ordering import OrderKey
    from celery_mysqllock.mysql import Inserted, Statements

_QUEUED, _SCHEDULED, _BLOCKED = 0, 2, 4


@dataclass(frozen=True)
class UniqueKey:
    """What makes a job the only one.

    Attributes:
        text: What no two jobs have at a time; from ``unique_key``.
        must_store: Store the job in any case, without the key when another task's job has it. For a
            job whose task id is known already: a retry, or a part of a chain.
    """

    text: str
    must_store: bool = False


@dataclass(frozen=True)
class NewJob:
    """A job that is to be stored.

    Attributes:
        queue: The queue's name, 255 characters at most.
        message: The text.
        priority: 0 to 9, the greater first.
        delay: Seconds until the job is due, None for now.
        lifetime: Seconds after which the job is not worth running, None for never.
        task_id: The task's id, None where it is derived from the row.
        unique: What no two jobs may have at a time, None for nothing.
        order: What blocks the job until others of the same key have ended, None for nothing. Jobs
            of a key run in the order of their ids, also those that are due later.
    """

    queue: str
    message: str
    priority: int = LOWEST_PRIORITY
    delay: float | None = None
    lifetime: float | None = None
    task_id: str | None = None
    unique: UniqueKey | None = None
    order: OrderKey | None = None

    @property
    def is_blocked(self) -> bool:
        """Whether it is stored as blocked by others of its order key."""
        return self.order is not None and self.delay is None


class Writer(Protocol):
    """What a job is stored through: a ``Session``, or a caller's connection."""

    def insert(self, sql: str, values: Mapping[str, object], *, then: str) -> Inserted:
        """Run an INSERT, and after it a SELECT of one number if that makes sense here."""

    def query(self, sql: str, parameters: Mapping[str, object]) -> list[tuple[Any, ...]]:
        """Run a statement and return its rows."""

    def execute(self, sql: str, parameters: Mapping[str, object]) -> int:
        """Run a statement and return how many rows it changed."""


class Insertion(NamedTuple):
    """The INSERT of a job.

    Attributes:
        values: The parameters of ``insert`` and ``find``.
        find: The name of the statement that finds the connection to wake once it is committed.
    """

    values: dict[str, Any]
    find: str

    @classmethod
    def of(cls, job: NewJob, names: LockNames) -> Insertion:
        """The INSERT of a job into the table with these names.

        Raises:
            SettingsError: The queue's name or a key is too long.
        """
        check_queue_name(job.queue)
        if job.unique is not None:
            check_key("unique_key", job.unique.text)
        if job.order is not None:
            check_key("order_key", job.order.text)
        values: dict[str, Any] = {
            "message": job.message,
            "queue": job.queue,
            "claim_order": HIGHEST_PRIORITY - job.priority,
            "delay": job.delay,
            "lifetime": job.lifetime,
            "task_id": job.task_id if job.task_id and len(job.task_id) <= TASK_ID_LIMIT else None,
            "unique_key": None if job.unique is None else job.unique.text,
            "order_key": None if job.order is None else job.order.text,
            "order_limit": None if job.order is None else job.order.limit,
            **dict(zip(BELL_PARAMETERS, names.bells(job.queue), strict=True)),
        }
        if job.delay is not None:
            return cls(
                {**values, "job_status": _SCHEDULED, "sweeper": names.sweeper}, "find_sweeper"
            )
        if job.is_blocked:
            return cls({**values, "job_status": _BLOCKED}, "find_nobody")
        return cls({**values, "job_status": _QUEUED}, "find_sleeper")

    def run(self, writer: Writer, sql: Statements) -> Inserted:
        """Store the job.

        Args:
            writer: Where to store it.
            sql: The statements of the job table.

        Raises:
            DuplicateKey: A job has the unique key; nothing was stored.
            DatabaseError: The INSERT stored no row, or failed; the subclass says why.
        """
        stored = writer.insert(sql["insert"], self.values, then=sql[self.find])
        check_stored(stored.rows)
        return stored


def check_stored(rows: int) -> None:
    """Do nothing when an INSERT has stored its row.

    Raises:
        DatabaseError: It has not.
    """
    if rows != 1:
        raise DatabaseError("The INSERT of the job stored no row.")
