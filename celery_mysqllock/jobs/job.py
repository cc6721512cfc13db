"""Jobs: what a queue and a key may be called, claimed jobs, and their settlement."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from celery_mysqllock.exceptions import SettingsError
from celery_mysqllock.jobs.counted import in_each_delivery

if TYPE_CHECKING:
    from collections.abc import Container
    from datetime import datetime

LOWEST_PRIORITY, HIGHEST_PRIORITY = 0, 9
QUEUE_NAME_LIMIT = 255
KEY_LIMIT = 255
TASK_ID_LIMIT = 255


@dataclass(frozen=True)
class ClaimedJob:
    """A job that a consumer has claimed.

    Attributes:
        id: The row's id.
        message: The row's message, as it was stored; None for NULL.
        queue: The queue it was in.
        deliveries: How often it has begun to run before.
        created_at: When it was stored, on the server's clock in UTC.
        task_id: The task id that its publisher has stored, None where there is none.
        order_key: What it has in common with the jobs that it blocks, None for nothing.
        recoveries: How often it was taken back from a consumer that had died.
        deferred_for: Seconds for which it has been deferred again and again, None if it was not.
        is_started: Whether this delivery counts as begun already.
        has_expired: Whether it is no longer worth running, by the server's clock.
    """

    id: int
    message: str | None
    queue: str
    deliveries: int
    created_at: datetime
    task_id: str | None = None
    order_key: str | None = None
    recoveries: int = 0
    deferred_for: int | None = None
    is_started: bool = False
    has_expired: bool = False

    @property
    def is_redelivered(self) -> bool:
        """Whether it may have begun to run before."""
        return self.deliveries > 0 or self.recoveries > 0 or self.deferred_for is not None


@dataclass(frozen=True)
class Destination:
    """Where a job belongs that was claimed where it stood.

    Attributes:
        queue: Its queue.
        priority: 0 to 9, the greater first; None for the one that it has.
        delay: Seconds until it is due, None for now.
    """

    queue: str
    priority: int | None = None
    delay: float | None = None


class Deferral(NamedTuple):
    """A job that goes back to its queue after a while, in the same place.

    Attributes:
        job_id: The row's id.
        seconds: The while, zero for at once.
        counts: Whether its delivery counts, as the one of a job that has failed.
        is_unknown: Whether this worker does not know its task. ``ClaimedJob.deferred_for`` says for
            how long it has been deferred for that.
    """

    job_id: int
    seconds: float
    counts: bool = False
    is_unknown: bool = False


@dataclass
class Settlement:
    """What becomes of claimed jobs.

    Attributes:
        started: Ids of jobs whose delivery counts, as they have begun; settled before the others.
        acked: Ids of jobs that are done.
        released: Ids of jobs that go back to their queues as they were.
        buried: Ids of jobs that are dead, each with the reason.
        deferred: Jobs that go back to their queues after a while.
        ended_keys: The order keys of the acked and buried jobs that have one, by their ids.
    """

    started: list[int] = field(default_factory=list)
    acked: list[int] = field(default_factory=list)
    released: list[int] = field(default_factory=list)
    buried: list[tuple[int, str]] = field(default_factory=list)
    deferred: list[Deferral] = field(default_factory=list)
    ended_keys: dict[int, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.started or self.acked or self.released or self.buried or self.deferred)

    def __add__(self, later: Settlement) -> Settlement:
        return Settlement(
            self.started + later.started,
            self.acked + later.acked,
            self.released + later.released,
            self.buried + later.buried,
            self.deferred + later.deferred,
            {**self.ended_keys, **later.ended_keys},
        )

    @property
    def ids(self) -> list[int]:
        """The ids of all that it changes, each once."""
        buried = (job_id for job_id, _ in self.buried)
        deferred = (job.job_id for job in self.deferred)
        every = (*self.started, *self.acked, *self.released, *buried, *deferred)
        return list(dict.fromkeys(every))

    def only(self, ids: Container[int]) -> Settlement:
        """The part that is about these jobs."""
        return Settlement(
            [job_id for job_id in self.started if job_id in ids],
            [job_id for job_id in self.acked if job_id in ids],
            [job_id for job_id in self.released if job_id in ids],
            [burial for burial in self.buried if burial[0] in ids],
            [job for job in self.deferred if job.job_id in ids],
            {job_id: key for job_id, key in self.ended_keys.items() if job_id in ids},
        )

    def without(self, ids: Container[int]) -> Settlement:
        """The part that is about all other jobs."""
        return self.only({job_id for job_id in self.ids if job_id not in ids})


#: Most seconds until a job that is given back may run again.
_LONGEST_PAUSE = 60.0


def pause_after(deliveries: int) -> float:
    """Seconds until a job that was given back after this many deliveries may run again.

    Zero after the first: a single failure may be an accident.
    """
    return min(_LONGEST_PAUSE, 0.2 * 3.0 ** min(deliveries - 2, 10)) if deliveries > 1 else 0.0


def check_queue_name(queue: str) -> None:
    """Do nothing when a queue may have this name.

    Raises:
        SettingsError: It is too long.
    """
    if len(queue) > QUEUE_NAME_LIMIT:
        raise SettingsError(
            f"The queue name {queue[:40]!r}... has {len(queue)} characters; {QUEUE_NAME_LIMIT} are "
            "allowed."
        )


def check_key(name: str, key: str) -> None:
    """Do nothing when a job may have this key.

    Args:
        name: The key's column, for the error.
        key: The key.

    Raises:
        SettingsError: It does not fit into its column.
    """
    if not key.isascii() or len(key) > KEY_LIMIT:
        raise SettingsError(
            f"{name}={key[:40]!r}, of {len(key)} characters, is not allowed; it takes up to "
            f"{KEY_LIMIT} characters, all of them ASCII."
        )


def given_back(job_id: int, deliveries: int, max_deliveries: int) -> Deferral | None:
    """How a job that has failed goes back to its queue: None when it does not, and is dead.

    Args:
        job_id: The row's id.
        deliveries: How often it has begun, this time included.
        max_deliveries: How often it may, 0 for no limit.
    """
    if max_deliveries and deliveries >= max_deliveries:
        return None
    return Deferral(job_id, pause_after(deliveries), counts=True)


def worn_out(max_deliveries: int, why: str) -> str:
    """The reason of a job that was given back too often."""
    often = f"It was given back to its queue {in_each_delivery(max_deliveries)}"
    return f"{often} (max_deliveries). {why}"
