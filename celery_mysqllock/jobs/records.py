"""The records that an inspection returns: jobs, queues, consumers and the server."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


class JobStatus(StrEnum):
    """The status of a job."""

    READY = "ready"
    SCHEDULED = "scheduled"
    WAITING = "waiting"
    RUNNING = "running"
    DEAD = "dead"
    DONE = "done"


@dataclass(frozen=True)
class Selection:
    """A choice of jobs. An attribute that is None means any.

    Attributes:
        queue: The queue they are in.
        status: Their status.
        task: The task's exact name. No index has it: among millions give queue and status too.
        older_than: Seconds since they were stored.
    """

    queue: str | None = None
    status: JobStatus | None = None
    task: str | None = None
    older_than: float | None = None


@dataclass(frozen=True)
class Job:
    """One row of the job table. Times are in UTC, of the server's clock.

    Attributes:
        id: The row's id.
        queue: Its queue.
        status: Its status.
        task: The task that the message names, None where it names none.
        task_id: The task's id as the message or the row has it, None for rows that have none.
        priority: 0 to 9, the greater first.
        deliveries: How often it has begun to run.
        created_at: When it was stored.
        ready_at: When it could be claimed, where that was later.
        due_at: Not before this.
        expires_at: Not after this.
        claimed_at: When it was claimed last.
        finished_at: When it was acknowledged or became dead.
        consumer: The name of the consumer that has it, or its identity.
        reason: Why it is dead.
        message: The row's message; None in lists.
    """

    id: int
    queue: str
    status: JobStatus
    task: str | None
    task_id: str | None
    priority: int
    deliveries: int
    created_at: datetime
    ready_at: datetime | None
    due_at: datetime | None
    expires_at: datetime | None
    claimed_at: datetime | None
    finished_at: datetime | None
    consumer: str | None
    reason: str | None
    message: str | None = None


@dataclass(frozen=True)
class ScheduledJob:
    """A job that is not due yet.

    Attributes:
        id: The row's id.
        message: The row's message; None for a large one.
        queue: The queue it is in.
        task_id: The id that its publisher has given its task, None when it has given none.
        priority: 0 to 9, the greater first.
        due_at: When it is due, on the server's clock in UTC.
        created_at: When it was stored, likewise.
    """

    id: int
    message: str | None
    queue: str
    task_id: str | None
    priority: int
    due_at: datetime
    created_at: datetime


@dataclass(frozen=True)
class QueueStatus:
    """One queue. A count that reaches the inspection's ``count_limit`` means: that many or more.

    Attributes:
        queue: Its name.
        ready: Jobs that can be claimed.
        scheduled: Jobs that are not due yet.
        waiting: Jobs whose key's turn has not come.
        running: Jobs that a consumer has claimed.
        dead: Jobs that are kept for a person.
        done: Dequeued jobs without an owner: finished and retained, or dequeued by a program that
            is not a worker.
        oldest_age: For how many seconds the jobs first in line have been ready, the longest of
            the priorities; None when none is.
        rate: Jobs that ended per second, in the last minute.
        ended: Jobs that have ended since they are counted, which is since the table was migrated.
        paused_at: When it was paused, None when it is not.
    """

    queue: str
    ready: int
    scheduled: int
    waiting: int
    running: int
    dead: int
    done: int
    oldest_age: float | None
    rate: float
    ended: int
    paused_at: datetime | None


@dataclass(frozen=True)
class ConsumerStatus:
    """One consumer.

    Attributes:
        identity: The owner of the jobs that it has claimed.
        name: Its name for people, None for one that is not on the list of consumers.
        queues: The queues that it consumes from.
        is_alive: Whether the server holds its liveness lock.
        claims: How many jobs it has claimed.
        started_at: When it was put on the list.
        is_worker: Whether it takes jobs. Others only listen to replies and events: ``celery
            inspect``, Flower, programs that wait for results.
    """

    identity: str
    name: str | None
    queues: tuple[str, ...]
    is_alive: bool
    claims: int
    started_at: datetime | None
    is_worker: bool = True


@dataclass(frozen=True)
class OpenTransaction:
    """A transaction that is open on the server.

    Attributes:
        age: Seconds since it began.
        connection_id: The server's number for its session.
        user: Its user.
        host: Where that is logged in from.
    """

    age: float
    connection_id: int
    user: str | None
    host: str | None


@dataclass(frozen=True)
class ServerHealth:
    """What slows claims down: an open transaction keeps deleted rows, which each claim steps over.

    Attributes:
        server: Kind and version.
        history_list_length: How many transactions' old row versions InnoDB keeps; None when the
            user may not see it (MySQL: the privilege PROCESS).
        oldest_transaction: The oldest open transaction, None when there is none, or the user may
            not see it.
        knows_transactions: Whether the user may see them (the privilege PROCESS).
    """

    server: str
    history_list_length: int | None
    oldest_transaction: OpenTransaction | None
    knows_transactions: bool
