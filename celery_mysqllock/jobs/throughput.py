"""Throughput: how many jobs of each queue a consumer ends; counted in memory, written later."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from celery_mysqllock.jobs.job import ClaimedJob, Settlement

logger = logging.getLogger(__name__)

# Seconds between two writes. Each is a part of a transaction that is due anyway.
_INTERVAL = 1.0


class Throughput:
    """Counts the jobs that one consumer acknowledges or buries. For any thread.

    Args:
        clock: Tells the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._mutex = threading.Lock()
        self._queues: dict[int, str] = {}
        self._ended: Counter[str] = Counter()
        self._next_write = clock()
        self._gave_up = False

    @property
    def is_pending(self) -> bool:
        """Whether something is counted and not written yet."""
        return bool(self._ended)

    def note(self, claimed: Iterable[ClaimedJob]) -> None:
        """Remember the queues of these jobs."""
        with self._mutex:
            self._queues.update((job.id, job.queue) for job in claimed)

    def take(self, settled: Settlement) -> Mapping[str, int]:
        """Count settled jobs, and return what is to be written now, by queue.

        A job counts once, however often it is settled.
        """
        with self._mutex:
            deferred = [job.job_id for job in settled.deferred]
            for job_id in (*settled.released, *deferred):
                self._queues.pop(job_id, None)
            for job_id in [*settled.acked, *(job_id for job_id, _ in settled.buried)]:
                queue = self._queues.pop(job_id, None)
                if queue is not None:
                    self._ended[queue] += 1
            if self._gave_up:
                self._ended.clear()
            now = self._clock()
            if not self._ended or now < self._next_write:
                return {}
            self._next_write = now + _INTERVAL
            ended, self._ended = self._ended, Counter()
            return ended

    def give_up(self, why: Exception) -> None:
        """Stop counting: the server refuses the counts."""
        with self._mutex:
            self._gave_up = True
        logger.warning("The jobs that end are not counted: %s", why)

    def put_back(self, ended: Mapping[str, int]) -> None:
        """Keep counts that could not be written."""
        with self._mutex:
            self._ended.update(ended)
