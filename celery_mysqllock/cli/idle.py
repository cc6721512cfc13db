"""Which queues nobody uses: those of tenants that are gone would be most of what is measured."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from celery_mysqllock.jobs import JobStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from celery_mysqllock.cli.overview import Overview
    from celery_mysqllock.jobs import QueueStatus


class InUse:
    """Leaves out queues that have been idle for long: no job, no consumer, no pause, no job ended.

    For any thread.

    Args:
        patience: Seconds for which it has to see a queue idle before it leaves it out.
        clock: Tells the time in seconds.
    """

    def __init__(self, patience: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience = patience
        self._clock = clock
        self._mutex = threading.Lock()
        self._idle: dict[str, tuple[int, float]] = {}

    def of(self, overview: Overview) -> Overview:
        """The overview without the queues that have been idle for long."""
        now = self._clock()
        served = {queue for one in overview.consumers if one.is_alive for queue in one.queues}
        with self._mutex:
            return replace(overview, queues=self._among(overview.queues, served, now))

    def _among(
        self, queues: Iterable[QueueStatus], served: set[str], now: float
    ) -> list[QueueStatus]:
        before, self._idle = self._idle, {}
        used = []
        for queue in queues:
            since = now
            if _is_empty(queue) and queue.queue not in served:
                ended, seen = before.get(queue.queue, (queue.ended, now))
                since = seen if ended == queue.ended else now
                self._idle[queue.queue] = queue.ended, since
                if now - since >= self._patience:
                    continue
            used.append(queue)
        return used


def _is_empty(queue: QueueStatus) -> bool:
    has_jobs = any(getattr(queue, status.value) for status in JobStatus)
    return not has_jobs and queue.paused_at is None
