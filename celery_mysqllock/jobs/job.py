"""What a job may be, a claimed one, and what is to become of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from celery_mysqllock.exceptions import SettingsError

if TYPE_CHECKING:
    from datetime import datetime

LOWEST_PRIORITY, HIGHEST_PRIORITY = 0, 9
QUEUE_NAME_LIMIT = 255
TASK_ID_LIMIT = 255


@dataclass(frozen=True)
class ClaimedJob:
    """A job that a consumer has claimed.

    Attributes:
        id: The row's id.
        message: The row's message, as it was stored; None for NULL.
        queue: The queue it was in.
        deliveries: How often it had been claimed before.
        created_at: When it was stored, on the server's clock in UTC.
        task_id: The id that its publisher has given its task, None for none.
        order_key: What it has in common with jobs that wait for its end, None when none do.
    """

    id: int
    message: str | None
    queue: str
    deliveries: int
    created_at: datetime
    task_id: str | None = None
    order_key: str | None = None


@dataclass(frozen=True)
class Placement:
    """Where a job belongs that was claimed where it stood.

    Attributes:
        queue: Its queue.
        priority: 0 to 9, the greater first; None for the one that it has.
        delay: Seconds until it is due, None for now.
    """

    queue: str
    priority: int | None = None
    delay: float | None = None


@dataclass
class Settlement:
    """What is to become of claimed jobs.

    Attributes:
        acked: Ids of jobs that are done.
        released: Ids of jobs that go back to their queues.
        unclaimed: Ids of jobs that go back as well, as they were: nobody has seen them.
        buried: Ids of jobs that are dead, each with the reason.
        put_aside: Ids of jobs that go back to their queues, each after so many seconds.
        ended_keys: The order keys of the acked and buried jobs, those that have one.
    """

    acked: list[int] = field(default_factory=list)
    released: list[int] = field(default_factory=list)
    unclaimed: list[int] = field(default_factory=list)
    buried: list[tuple[int, str]] = field(default_factory=list)
    put_aside: list[tuple[int, float]] = field(default_factory=list)
    ended_keys: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.acked or self.released or self.unclaimed or self.buried or self.put_aside)

    def __add__(self, later: Settlement) -> Settlement:
        return Settlement(
            self.acked + later.acked,
            self.released + later.released,
            self.unclaimed + later.unclaimed,
            self.buried + later.buried,
            self.put_aside + later.put_aside,
            self.ended_keys + later.ended_keys,
        )


def check_queue_name(queue: str) -> None:
    """Do nothing when a queue may have that name.

    Raises:
        SettingsError: It is too long.
    """
    if len(queue) > QUEUE_NAME_LIMIT:
        raise SettingsError(
            f"The queue name {queue[:40]!r}... has {len(queue)} characters; {QUEUE_NAME_LIMIT} are "
            "allowed."
        )
