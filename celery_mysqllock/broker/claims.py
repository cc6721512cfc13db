"""The claimed jobs that a channel has not delivered yet: when to claim, from where, how many."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_mysqllock.broker.message import Payload
    from celery_mysqllock.broker.prefetch import Prefetch
    from celery_mysqllock.settings import BrokerSettings

# A claim that emptied the queue is followed by another look this soon: more is likely to come.
_SOON = 0.2
# A window that is not half free is topped up after this many seconds, so that one claim takes
# several jobs, and yet a slot never waits for the end of a long task beside it.
_TOP_UP = 0.05


class Undelivered(NamedTuple):
    """A claimed job on its way to the consumer."""

    payload: Payload
    queue: str

    @property
    def job_id(self) -> int:
        """The row's id, which is the delivery tag."""
        job_id: int = self.payload["properties"]["delivery_tag"]
        return job_id


class Claims:
    """A buffer between the job table and one channel.

    Args:
        queues: The queues that the channel consumes from, in turn; the channel's own list.
        prefetch: The channel's window; no more is claimed than has room in it.
        settings: The connection's settings.
        claim: Claims up to so many jobs of a queue from the table.
    """

    def __init__(
        self,
        queues: list[str],
        prefetch: Prefetch,
        settings: BrokerSettings,
        claim: Callable[[str, int], list[Payload]],
    ) -> None:
        self._queues = queues
        self._prefetch = prefetch
        self._settings = settings
        self._claim = claim
        self._buffer: deque[Undelivered] = deque()
        self._next_look: dict[str, float] = {}
        self._short_since: float | None = None

    def next(self) -> Undelivered | None:
        """The next job to deliver, claiming some when none is at hand; None when there is none."""
        if not self._buffer:
            self._fill()
        return self._buffer.popleft() if self._buffer else None

    def withdraw(self, queue: str | None = None) -> list[int]:
        """Take out what was not delivered, of one queue or of all; returns the job ids."""
        kept: deque[Undelivered] = deque()
        withdrawn: list[int] = []
        for job in self._buffer:
            if queue is None or job.queue == queue:
                withdrawn.append(job.job_id)
            else:
                kept.append(job)
        self._buffer = kept
        return withdrawn

    def look_again(self) -> None:
        """Look into every queue at the next chance: a job has come back."""
        self._next_look.clear()

    def pause(self) -> float:
        """Seconds for which there is nothing to do here, unless a slot becomes free."""
        if not self._queues or not self._prefetch.can_consume():
            return self._settings.polling_interval
        if self._short_since is not None:
            return _TOP_UP
        next_look = min(self._next_look.get(queue, 0.0) for queue in self._queues)
        return max(0.0, next_look - time.monotonic())

    def _fill(self) -> None:
        limit = self._limit()
        now = time.monotonic()
        for queue in list(self._queues) if limit else ():
            if self._next_look.get(queue, 0.0) > now:
                continue
            claimed = self._claim(queue, limit)
            self._next_look[queue] = now + self._pause_after(len(claimed), limit)
            if claimed:
                self._buffer.extend(Undelivered(payload, queue) for payload in claimed)
                self._queues.remove(queue)
                self._queues.append(queue)
                return

    def _limit(self) -> int:
        """How many jobs to claim now: none until half the window is free, or a moment is over."""
        room = min(self._prefetch.room, self._settings.claim_limit)
        if not self._prefetch.can_consume():
            return 0
        if room * 2 >= min(self._prefetch.window, self._settings.claim_limit):
            self._short_since = None
            return room
        now = time.monotonic()
        if self._short_since is None:
            self._short_since = now
        if now - self._short_since < _TOP_UP:
            return 0
        self._short_since = None
        return room

    def _pause_after(self, claimed: int, asked: int) -> float:
        if claimed >= asked:
            return 0.0
        interval = self._settings.polling_interval
        return min(_SOON, interval) if claimed else interval
