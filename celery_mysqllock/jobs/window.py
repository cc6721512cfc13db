"""A consumer's window on its queues: what is claimed ahead, what is out, what has been settled."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from celery_mysqllock.exceptions import ConnectionLost, MySQLLockError
from celery_mysqllock.jobs.job import Aside, Settlement, given_back, worn_out
from celery_mysqllock.jobs.suspects import Suspects

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from celery_mysqllock.jobs.job import ClaimedJob

#: Seconds for which a job runs before its delivery is written down, which is a statement more: what
# takes no longer is acknowledged by then. Written with another transaction when there is one after
# half of them.
LONG = 0.2
# Seconds without anything running or moving after which the consumer waits for more.
_STILL = 1.0


class Window:
    """What the consuming side of a stream sees and says; safe for any thread.

    At most ``window`` jobs are out: taken by the consumer and not settled. Behind them stand some
    that were claimed ahead, as many as the consumer has lately taken in a moment: none where tasks
    take long.

    A delivery is a start: it counts when the job begins to run, and not when it is claimed. What
    has come back from a dead consumer begins as ``Suspects`` says.

    Args:
        claim_limit: Most jobs that one statement claims.
        on_jobs: Called, from any thread, when there are jobs to take, or ``error`` is set.
        max_deliveries: How often a job may be given back before it is dead; 0 for no limit.

    Attributes:
        error: Why no more jobs come, None while they do.
    """

    def __init__(
        self, claim_limit: int, on_jobs: Callable[[], None], *, max_deliveries: int = 0
    ) -> None:
        self.error: MySQLLockError | None = None
        self._claim_limit = claim_limit
        self._on_jobs = on_jobs
        self._max_deliveries = max_deliveries
        self._queues: deque[str] = deque()
        self._window = 0
        self._ahead = 0
        self._may_claim_ahead = True
        self._out: dict[int, ClaimedJob] = {}
        self._taken = 0
        self._jobs: deque[ClaimedJob] = deque()
        self._suspects = Suspects(time.monotonic, max_deliveries)
        self._running: set[int] = set()
        self._moved_at = 0.0
        # since when those of the running jobs run whose delivery is not written down
        self._begun: dict[int, float] = {}
        self._slots: Callable[[], int] | None = None
        self._rests = False
        self._settled = Settlement()
        self._to_look: set[str] = set()
        self._changed = threading.Condition()
        self._closed = False
        self._kept: set[int] = set()
        self._gathers = False

    def consume(self, queues: list[str]) -> None:
        """Claim from these queues from now on, in turn."""
        with self._changed:
            new = set(queues).difference(self._queues)
            self._queues = deque(queues)
            self._to_look = self._to_look.intersection(queues) | new
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

    def run_in(self, slots: Callable[[], int]) -> None:
        """Be told how many jobs the consumer runs at once now; it says by ``begin`` which it does.

        Without that, what is delivered next runs next.
        """
        with self._changed:
            self._slots = slots

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
                self._taken += 1
                self._moved_at = time.monotonic()
                job = self._jobs.popleft()
                self._out[job.id] = job
                self._suspects.take(job)
                return job
        if self.error is not None:
            raise self.error
        return None

    def begin(self, job_id: int) -> None:
        """The job that was taken has begun to run."""
        with self._changed:
            job = self._out.get(job_id)
            if job is None:
                return
            self._running.add(job_id)
            if not job.is_started:
                self._begun[job_id] = time.monotonic()
                if self._rests:
                    self._rests = False
                    self._changed.notify()

    def ack(self, job_id: int) -> None:
        """The job is done; it goes with the next transaction, at once when none is under way.

        Raises:
            ConnectionLost: The job went back to its queue when the stream was closed.
        """
        with self._changed:
            job = self._count_down(job_id)
            self._settled.acked.append(job_id)
            self._let_next_go(job)
            self._tell()

    def release(self, job_id: int) -> None:
        """The job goes back to its queue, and its delivery does not count; errors as in ``ack``."""
        with self._changed:
            has_begun = job_id in self._running
            self._count_down(job_id)
            if has_begun:
                # and the next delivery says so
                self._settled.put_aside.append(Aside(job_id, 0.0))
            else:
                self._settled.released.append(job_id)
            self._tell()

    def requeue(self, job_id: int, why: Callable[[], str]) -> None:
        """The job has failed and goes back, after a pause that grows; or is dead after too often.

        Args:
            job_id: The job's id.
            why: Tells the reason for that, in the latter case.

        Raises:
            ConnectionLost: As in ``ack``.
        """
        with self._changed:
            job = self._count_down(job_id)
            self._settled.started.append(job_id)
            deliveries = 1 if job is None else job.deliveries + 1
            aside = given_back(job_id, deliveries, self._max_deliveries)
            if aside is None:
                self._settled.buried.append((job_id, worn_out(self._max_deliveries, why())))
                self._let_next_go(job)
            else:
                self._settled.put_aside.append(aside)
            self._tell()

    def put_aside(self, job_id: int, seconds: float, *, is_unknown: bool = False) -> None:
        """The job goes back to its queue after so many seconds; as in ``Aside``, and ``ack``."""
        with self._changed:
            self._count_down(job_id)
            self._settled.put_aside.append(Aside(job_id, seconds, is_unknown=is_unknown))
            self._tell()

    def bury(self, job_id: int, reason: str) -> None:
        """The job is dead, for this reason; errors as in ``ack``."""
        with self._changed:
            if job_id in self._begun:
                self._settled.started.append(job_id)
            job = self._count_down(job_id)
            self._settled.buried.append((job_id, reason))
            self._let_next_go(job)
            self._tell()

    def _let_next_go(self, job: ClaimedJob | None) -> None:
        if job is not None and job.order_key is not None:
            self._settled.ended_keys[job.id] = job.order_key
            if job.queue in self._queues:
                # the next of the key comes into it, and the same transaction can claim it
                self._to_look.add(job.queue)

    def _count_down(self, job_id: int) -> ClaimedJob | None:
        if self._closed:
            if job_id not in self._kept:
                raise ConnectionLost("The channel is closed; what it had claimed went back.")
            self._kept.discard(job_id)
        self._moved_at = time.monotonic()
        self._begun.pop(job_id, None)
        self._running.discard(job_id)
        return self._out.pop(job_id, None)

    def _tell(self) -> None:
        """Wake the thread, unless it gathers and has not got enough; and who may take the next."""
        if not self._gathers or self._is_due():
            self._changed.notify()
        if self._may_take() and len(self._out) + 1 == self._window:
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
            for job in back:
                self._suspects.forget(job)
            back += self._suspects.give_back(queue)
            self._settled.released.extend(job.id for job in back)
            self._changed.notify()
            if self._may_take():
                self._on_jobs()

    def shut(self, kept: Collection[int]) -> None:
        """Claim no more, and give back what nobody has taken.

        Args:
            kept: Jobs that are still running; each may be settled later.
        """
        with self._changed:
            self._queues.clear()
            # what is free of the window now is for nobody
            self._to_look.clear()
            back = [*self._jobs, *self._suspects.give_back()]
            self._settled.released.extend(job.id for job in back)
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
        return max(0, self._window - self._held())

    def _held(self) -> int:
        """How many jobs are claimed and not settled."""
        return len(self._out) + len(self._jobs) + len(self._suspects)

    def _may_take(self) -> bool:
        if not self._jobs or len(self._out) >= self._window:
            return False
        # While one of the suspects waits for its start, the place that it needs is kept for it.
        return self._suspects.is_next(self._jobs[0]) or not (
            self._suspects and (self._suspects.starting is not None or self._may_suspect_start())
        )

    def _may_suspect_start(self) -> bool:
        """Whether it is time for one, and it would run at once."""
        return self._suspects.may_start(self._out) and not self._closed

    def _is_place_free(self) -> bool:
        """Whether what is delivered next runs next."""
        if self._slots is None or len(self._out) < self._slots():
            return True
        # What the consumer has, it keeps to itself: a batch, or the slots of a rate limit.
        return not self._running and time.monotonic() > self._moved_at + _STILL

    def _starts(self) -> int:
        """How many of the jobs that are claimed now begin at once."""
        slots = 1 if self._slots is None else self._slots()
        return max(0, slots - self._held())

    def _limit(self) -> int:
        """How many jobs to claim."""
        free = self._window + self._ahead - self._held()
        return min(max(0, free), self._claim_limit)

    def _can_claim(self) -> bool:
        return self.error is None and bool(self._to_look) and self._limit() > 0

    def _running_long(self, seconds: float = LONG) -> list[int]:
        """The jobs that have been running for so long and whose delivery is not written down."""
        if not self._begun:
            return []
        before = time.monotonic() - seconds
        return [job_id for job_id, since in self._begun.items() if since <= before]

    def _write_down(self) -> list[int]:
        """The jobs whose delivery is to be written down now."""
        running = self._running_long(LONG / 2)
        for job_id in running:
            del self._begun[job_id]
        return running

    def _is_due(self) -> bool:
        """Whether a transaction is worth it now, or nothing can come that would make it so."""
        whole = min(self._window + self._ahead, self._claim_limit)
        if self._can_claim() and self._limit() * 2 >= whole:
            return True
        if self._settled.ended_keys and not self._jobs:
            # nothing to do here, and what comes next may wait for just these
            return True
        if self._settled and (self._closed or not (self._out or self._jobs)):
            return True
        if self._suspects and self._may_suspect_start() and self._is_place_free():
            return True
        return bool(self._running_long())
