"""Jobs that have come back from a dead consumer: one of them may be what has killed it."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from celery_mysqllock.jobs.job import ClaimedJob

# Seconds after which the next one begins although the one before still runs: a job that kills its
# worker by its beginning has done so by then.
_HARMLESS = 1.0


class Suspects:
    """The claimed jobs that begin one after the other, each after its start was committed.

    So only jobs that have begun count as delivered when the worker dies again; and a short job has
    ended, and its ack was committed, before the next one begins.

    A job that would be dead if its consumer died once more runs beside no other suspect: then it is
    known which one has killed the consumer.

    Args:
        max_deliveries: The delivery that is a job's last one; 0 for no limit.

    Attributes:
        starting: The job whose start is being committed, None for none.
    """

    def __init__(self, max_deliveries: int = 0) -> None:
        self._max_deliveries = max_deliveries
        # those that were started, and whether each is on its last delivery
        self._begun: dict[int, bool] = {}
        self._waiting: deque[ClaimedJob] = deque()
        self.starting: ClaimedJob | None = None
        self._last: int | None = None
        self._taken_at: float | None = None
        self._not_before = 0.0

    def __len__(self) -> int:
        return len(self._waiting) + (self.starting is not None)

    def __iter__(self) -> Iterator[ClaimedJob]:
        return iter([*([] if self.starting is None else [self.starting]), *self._waiting])

    def add(self, job: ClaimedJob) -> None:
        """A suspect was claimed."""
        self._waiting.append(job)

    def may_start(self, out: Container[int], now: float) -> bool:
        """Whether it is time for the next.

        Args:
            out: The ids of the jobs that the consumer has.
            now: The time in seconds.
        """
        if not self._waiting or self.starting is not None or now < self._not_before:
            return False
        if self._last is None:
            return True
        if self._taken_at is None:
            return False
        self._begun = {job_id: last for job_id, last in self._begun.items() if job_id in out}
        if self._begun and (self._is_on_last(self._waiting[0]) or any(self._begun.values())):
            return False
        return self._last not in out or now >= self._taken_at + _HARMLESS

    def _is_on_last(self, job: ClaimedJob) -> bool:
        return bool(self._max_deliveries) and job.deliveries + 1 >= self._max_deliveries

    def start(self) -> ClaimedJob:
        """The next one, whose start is to be committed; then ``started`` or ``postpone``."""
        self.starting = self._waiting.popleft()
        return self.starting

    def started(self, job: ClaimedJob) -> ClaimedJob:
        """The start of this job was committed; returns it, to be delivered next."""
        self.starting = None
        self._last, self._taken_at = job.id, None
        self._begun[job.id] = self._is_on_last(job)
        return replace(job, is_started=True)

    def postpone(self, until: float) -> None:
        """The start could not be committed; other jobs go before it until that time."""
        if self.starting is not None:
            self._waiting.appendleft(self.starting)
            self.starting = None
        self._not_before = until

    def is_next(self, job: ClaimedJob) -> bool:
        """Whether that is the one that was started and has not been taken."""
        return job.id == self._last and self._taken_at is None

    def take(self, job: ClaimedJob, now: float) -> None:
        """The consumer has got the job."""
        if job.id == self._last:
            self._taken_at = now

    def forget(self, job: ClaimedJob) -> None:
        """The job was given back before the consumer got it."""
        if self.is_next(job):
            self._last = None

    def give_back(self, queue: str | None = None) -> list[ClaimedJob]:
        """Forget those of a queue, or all, that have not been started; returns them."""
        back = [job for job in self if queue is None or job.queue == queue]
        self._waiting = deque(job for job in self._waiting if job not in back)
        if self.starting in back:
            self.starting = None
        return back
