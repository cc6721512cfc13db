"""A consumer's window on its queues: what is claimed ahead, what is out, what has been settled."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from celery_mysqllock.exceptions import ConnectionLost, MySQLLockError
from celery_mysqllock.jobs.job import Settlement

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from celery_mysqllock.jobs.job import ClaimedJob


class Window:
    """What the consuming side of a stream sees and says; safe for any thread.

    At most ``window`` jobs are out: taken by the consumer and not settled. Behind them stand some
    that were claimed ahead, as many as the consumer has lately taken in a moment: none where tasks
    take long.

    Args:
        claim_limit: Most jobs that one statement claims.
        on_jobs: Called, from any thread, when there are jobs to take, or ``error`` is set.

    Attributes:
        error: Why no more jobs come, None while they do.
    """

    def __init__(self, claim_limit: int, on_jobs: Callable[[], None]) -> None:
        self.error: MySQLLockError | None = None
        self._claim_limit = claim_limit
        self._on_jobs = on_jobs
        self._queues: deque[str] = deque()
        self._window = 0
        self._ahead = 0
        self._may_claim_ahead = True
        self._out = 0
        self._taken = 0
        self._jobs: deque[ClaimedJob] = deque()
        self._settled = Settlement()
        self._to_look: set[str] = set()
        self._changed = threading.Condition()
        self._closed = False
        self._kept: set[int] = set()
        self._gathers = False
        # those that have been taken and are not settled, and have an order key
        self._ordered: dict[int, ClaimedJob] = {}

    def consume(self, queues: list[str]) -> None:
        """Claim from these queues from now on, in turn."""
        with self._changed:
            self._queues = deque(queues)
            self._to_look = set(queues)
            self._changed.notify()

    def set_window(self, window: int, *, ahead: bool = True) -> None:
        """Have at most so many jobs out: taken and not settled.

        Args:
            window: How many.
            ahead: Whether others may be claimed ahead of it.
        """
        with self._changed:
            self._window = window
            self._may_claim_ahead = ahead
            self._changed.notify()
            if self._may_take():
                self._on_jobs()

    def look(self, queues: Collection[str]) -> None:
        """Something may have come to these queues."""
        with self._changed:
            self._to_look |= set(queues) & set(self._queues)
            self._changed.notify()

    def take(self) -> ClaimedJob | None:
        """The next claimed job, None when there is none just now or the window is full.

        Raises:
            MySQLLockError: No more jobs come, for this reason.
        """
        with self._changed:
            if self._may_take():
                self._out += 1
                self._taken += 1
                job = self._jobs.popleft()
                if job.order_key is not None:
                    self._ordered[job.id] = job
                return job
        if self.error is not None:
            raise self.error
        return None

    def ack(self, job_id: int) -> None:
        """The job is done; it goes with the next transaction, at once when none is under way.

        Raises:
            ConnectionLost: The job went back to its queue when the stream was closed.
        """
        with self._changed:
            self._count_down(job_id)
            self._settled.acked.append(job_id)
            self._let_next_go(job_id)
            self._tell()

    def release(self, job_id: int) -> None:
        """The job goes back to its queue; errors as in ``ack``."""
        with self._changed:
            self._count_down(job_id)
            self._settled.released.append(job_id)
            self._ordered.pop(job_id, None)
            self._tell()

    def put_aside(self, job_id: int, seconds: float) -> None:
        """The job goes back to its queue after so many seconds; errors as in ``ack``."""
        with self._changed:
            self._count_down(job_id)
            self._settled.put_aside.append((job_id, seconds))
            self._ordered.pop(job_id, None)
            self._tell()

    def bury(self, job_id: int, reason: str) -> None:
        """The job is dead, for this reason; errors as in ``ack``."""
        with self._changed:
            self._count_down(job_id)
            self._settled.buried.append((job_id, reason))
            self._let_next_go(job_id)
            self._tell()

    def _let_next_go(self, job_id: int) -> None:
        job = self._ordered.pop(job_id, None)
        if job is not None and job.order_key is not None:
            self._settled.ended_keys.append(job.order_key)
            if job.queue in self._queues:
                # the next of the key comes into it, and the same transaction can claim it
                self._to_look.add(job.queue)

    def _count_down(self, job_id: int) -> None:
        if self._closed:
            if job_id not in self._kept:
                raise ConnectionLost("The channel is closed; what it had claimed went back.")
            self._kept.discard(job_id)
        self._out -= 1

    def _tell(self) -> None:
        """Wake the thread, unless it gathers and has not got enough; and who may take the next."""
        if not self._gathers or self._is_due():
            self._changed.notify()
        if self._may_take() and self._out + 1 == self._window:
            self._on_jobs()

    def forget(self, job_id: int) -> None:
        """The job was given to another place; it is out no more."""
        with self._changed:
            if not self._closed:
                self._count_down(job_id)

    def explain(self, job_id: int, reason: str) -> None:
        """Give a job that was buried a better reason."""
        with self._changed:
            self._settled.buried.append((job_id, reason))
            self._changed.notify()

    def withdraw(self, queue: str) -> None:
        """Give back the jobs of the queue that nobody has taken yet."""
        with self._changed:
            back = [job for job in self._jobs if job.queue == queue]
            self._jobs = deque(job for job in self._jobs if job.queue != queue)
            self._settled.unclaimed.extend(job.id for job in back)
            self._changed.notify()

    def shut(self, kept: Collection[int]) -> None:
        """Claim no more, and give back what nobody has taken.

        Args:
            kept: Jobs that are still running; each may be settled later.
        """
        with self._changed:
            self._queues.clear()
            self._settled.unclaimed.extend(job.id for job in self._jobs)
            self._jobs.clear()
            self._kept = set(kept)
            self._closed = True
            self._changed.notify()

    @property
    def queues(self) -> set[str]:
        """The queues that it claims from."""
        with self._changed:
            return set(self._queues)

    @property
    def is_dry(self) -> bool:
        """Whether there is room, and nothing in the queues as far as is known."""
        with self._changed:
            return bool(self._queues) and self._room() > 0 and not self._to_look

    def _room(self) -> int:
        return max(0, self._window - self._out - len(self._jobs))

    def _may_take(self) -> bool:
        return bool(self._jobs) and self._out < self._window

    def _limit(self) -> int:
        """How many jobs to claim."""
        free = self._window + self._ahead - self._out - len(self._jobs)
        return min(max(0, free), self._claim_limit)

    def _can_claim(self) -> bool:
        return self.error is None and bool(self._to_look) and self._limit() > 0

    def _is_due(self) -> bool:
        """Whether a transaction is worth it now, or nothing can come that would make it so."""
        whole = min(self._window + self._ahead, self._claim_limit)
        if self._can_claim() and self._limit() * 2 >= whole:
            return True
        if self._settled.ended_keys and not self._jobs:
            # nothing to do here, and what comes next may wait for just these
            return True
        return bool(self._settled) and (self._closed or not (self._out or self._jobs))
