"""What happens to jobs and consumers, for an observer; ``celery_mysqllock.signals`` explains it."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class JobClaimed(NamedTuple):
    """A consumer has claimed a job."""

    job_id: int
    task_id: str | None
    queue: str
    deliveries: int
    consumer: str


class JobRecovered(NamedTuple):
    """A job of a dead consumer is in its queue again."""

    job_id: int
    queue: str
    deliveries: int
    consumer: str


class JobDead(NamedTuple):
    """A job that a consumer had claimed is dead."""

    job_id: int
    reason: str
    consumer: str


class ConsumerDied(NamedTuple):
    """A consumer is dead, and its jobs are recovered or dead."""

    consumer: str
    jobs: int


class BecameSweeper(NamedTuple):
    """A consumer of this process does the housekeeping from now on."""

    consumer: str


class QueuePaused(NamedTuple):
    """A queue was paused."""

    queue: str


class QueueResumed(NamedTuple):
    """A paused queue is claimed from again."""

    queue: str


Event = (
    JobClaimed | JobRecovered | JobDead | ConsumerDied | BecameSweeper | QueuePaused | QueueResumed
)


class Observer(Protocol):
    """Is told of events."""

    def wants(self, kind: type[Event]) -> bool:
        """Whether events of that kind need to be told."""

    def tell(self, event: Event) -> None:
        """The event has happened, and is committed. From any thread; raises nothing."""


class Unobserved:
    """The observer where there is none."""

    def wants(self, _: type[Event]) -> bool:
        """No."""
        return False

    def tell(self, event: Event) -> None:
        """Ignore it."""
