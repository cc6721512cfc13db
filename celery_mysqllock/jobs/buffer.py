"""The jobs that one consumer has claimed: which to deliver, to settle and to claim next.

A state machine: no lock, no thread, no session, and the time comes in as an argument.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from celery_mysqllock.exceptions import ConnectionLost
from celery_mysqllock.jobs.job import Deferral, Settlement, given_back, worn_out
from celery_mysqllock.jobs.suspects import Suspects

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from celery_mysqllock.jobs.job import ClaimedJob

# Seconds for which a job runs before its delivery is written, which is a statement more: shorter
# jobs are acknowledged by then. With another transaction, it is written after half of them.
_LONG = 0.2
# Seconds without a job taken or settled after which the consumer waits for more.
_STILL = 1.0
# Seconds for which the first ack, or the first free place of the window, waits for more of them
# while other jobs are out: a transaction costs the server as much as ten more jobs in it.
_BATCH = 0.005
# Jobs are claimed ahead of the window for so many seconds of the consumer's work.
_AHEAD = 0.02
# Seconds after which jobs that were claimed ahead and not taken go back: there are long tasks now.
_STALE = 0.5


@dataclass(frozen=True)
class Turn:
    """One transaction: what it settles, and what it claims.

    Attributes:
        settlement: What becomes of jobs that were claimed before.
        queue: The queue to claim from, None to claim nothing.
        limit: Most jobs to claim.
        starts: How many of them begin at once, so that their delivery counts.
    """

    settlement: Settlement
    queue: str | None = None
    limit: int = 0
    starts: int = 0


class FetchBuffer:
    """The claimed jobs between the table and a consumer.

    At most ``window`` jobs are out: taken by the consumer and not settled. Behind them are jobs
    claimed ahead, as many as the consumer has lately taken in a moment; none where tasks take long.

    A delivery is a start: it counts when the job begins to run, not when it is claimed. Jobs that
    came back from a dead consumer begin as ``Suspects`` says.

    The fetcher asks ``wake_at`` when the next transaction is worth it, gets it from ``next_turn``,
    and reports with ``settled``, ``failed`` or ``postpone`` what became of it. Every ``now`` is in
    seconds of a clock that never goes back.

    Args:
        claim_limit: Most jobs that one statement claims.
        max_deliveries: How often a job may be given back before it is dead; 0 for no limit.
    """

    def __init__(self, claim_limit: int, *, max_deliveries: int = 0) -> None:
        self._claim_limit = claim_limit
        self._max_deliveries = max_deliveries
        self._window = 0
        self._slots: Callable[[], int] | None = None
        # The queues to claim from, the next one first; those that may have jobs, and those of them
        # that are known to.
        self._queues: deque[str] = deque()
        self._maybe_ready: set[str] = set()
        self._ready_queues: set[str] = set()
        self._may_claim = True
        # Jobs to deliver, jobs that are delivered and not settled, and those of them that run.
        self._jobs: deque[ClaimedJob] = deque()
        self._suspects = Suspects(max_deliveries)
        self._out: dict[int, ClaimedJob] = {}
        self._running: set[int] = set()
        # since when those run whose delivery is not written, the first one first
        self._begun: dict[int, float] = {}
        # For the next transaction, and for one after a pause.
        self._settled = Settlement()
        self._stuck = Settlement()
        self._stuck_until = 0.0
        self._batch_until: float | None = None
        # How many jobs are claimed ahead, by the number taken since the last turn.
        self._ahead = 0
        self._may_claim_ahead = True
        self._taken = self._last_taken = 0
        self._taken_at = self._last_turn = 0.0
        self._closed = False
        self._still_running: set[int] = set()
        #: When a job was last taken or settled.
        self.moved_at = 0.0

    # -- what the consumer wants ------------------------------------------------------------------

    def consume(self, queues: list[str]) -> None:
        """Claim from these queues from now on, in turn."""
        if not self._closed:
            new = set(queues).difference(self._queues)
            self._queues = deque(queues)
            self._maybe_ready = self._maybe_ready.intersection(queues) | new
            self._ready_queues.intersection_update(queues)

    def set_window(self, window: int, *, ahead: bool = True) -> None:
        """Have at most so many jobs out: taken and not settled.

        Args:
            window: How many.
            ahead: Whether others may be claimed ahead of it.
        """
        self._window = window
        self._may_claim_ahead = ahead

    def run_in(self, slots: Callable[[], int]) -> None:
        """Ask this how many jobs the consumer could run at once now; ``begin`` says what it runs.

        Without it, what is delivered next runs next.
        """
        self._slots = slots

    def look(self, queues: Collection[str]) -> None:
        """These queues may have jobs."""
        self._maybe_ready |= set(queues) & set(self._queues)

    @property
    def queues(self) -> set[str]:
        """The queues to claim from."""
        return set(self._queues)

    @property
    def is_drained(self) -> bool:
        """Whether there is room, and no job in the queues as far as is known."""
        return bool(self._queues) and self._held() < self._window and not self._maybe_ready

    # -- delivery ---------------------------------------------------------------------------------

    def can_take(self, now: float) -> bool:
        """Whether there is a job to take, and room for it in the window."""
        if not self._jobs or len(self._out) >= self._window:
            return False
        # While a suspect waits for its start, the place that it needs is kept for it.
        return self._suspects.is_next(self._jobs[0]) or not (
            self._suspects.starting is not None or self._may_start_suspect(now)
        )

    def take(self, now: float) -> ClaimedJob | None:
        """The next job to deliver, None when there is none just now or the window is full."""
        if not self.can_take(now):
            return None
        self._taken += 1
        self._taken_at = self.moved_at = now
        job = self._jobs.popleft()
        self._out[job.id] = job
        self._suspects.take(job, now)
        return job

    def begin(self, job_id: int, now: float) -> None:
        """The job that was taken has begun to run."""
        job = self._out.get(job_id)
        if job is not None:
            self._running.add(job_id)
            if not job.is_started:
                self._begun[job_id] = now

    def withdraw(self, queue: str) -> None:
        """Give back the jobs of the queue that are not delivered."""
        self._return_undelivered([job for job in self._jobs if job.queue == queue])
        returned = self._suspects.give_back(queue)
        self._settled.released.extend(job.id for job in returned)

    def _return_undelivered(self, jobs: list[ClaimedJob]) -> None:
        ids = {job.id for job in jobs}
        self._jobs = deque(job for job in self._jobs if job.id not in ids)
        for job in jobs:
            self._suspects.forget(job)
        self._settled.released.extend(job.id for job in jobs)

    # -- settlement -------------------------------------------------------------------------------

    def ack(self, job_id: int, now: float) -> None:
        """The job is done.

        Raises:
            ConnectionLost: The job went back to its queue when the buffer was closed.
        """
        job = self._leave_window(job_id, now)
        self._settled.acked.append(job_id)
        self._end_key(job)

    def release(self, job_id: int, now: float) -> None:
        """The job goes back to its queue, and its delivery does not count; errors as in ``ack``."""
        has_begun = job_id in self._running
        self._leave_window(job_id, now)
        if has_begun:
            # and the next delivery says so
            self._settled.deferred.append(Deferral(job_id, 0.0))
        else:
            self._settled.released.append(job_id)

    def requeue(
        self, job_id: int, why: Callable[[], str], now: float, *, deliveries: int = 0
    ) -> None:
        """The job has failed and goes back, after a pause that grows; or is dead after too often.

        Args:
            job_id: The job's id.
            why: Tells the reason for that, in the latter case.
            now: The time.
            deliveries: How often the job has begun to run before, if it was not claimed here.

        Raises:
            ConnectionLost: As in ``ack``.
        """
        job = self._leave_window(job_id, now)
        self._settled.started.append(job_id)
        before = deliveries if job is None else job.deliveries
        deferral = given_back(job_id, before + 1, self._max_deliveries)
        if deferral is None:
            self._settled.buried.append((job_id, worn_out(self._max_deliveries, why())))
            self._end_key(job)
        else:
            self._settled.deferred.append(deferral)

    def defer(self, job_id: int, seconds: float, now: float, *, is_unknown: bool = False) -> None:
        """The job goes back to its queue after so many seconds; as in ``Deferral``, and ``ack``."""
        self._leave_window(job_id, now)
        self._settled.deferred.append(Deferral(job_id, seconds, is_unknown=is_unknown))

    def bury(self, job_id: int, reason: str, now: float) -> None:
        """The job is dead, for this reason; errors as in ``ack``."""
        if job_id in self._begun:
            self._settled.started.append(job_id)
        job = self._leave_window(job_id, now)
        self._settled.buried.append((job_id, reason))
        self._end_key(job)

    def explain(self, job_id: int, reason: str) -> None:
        """Give a job that was buried a better reason."""
        self._settled.buried.append((job_id, reason))

    def forget(self, job_id: int, now: float) -> None:
        """The job was given to another queue; it is out no more."""
        if not self._closed:
            self._leave_window(job_id, now)

    def _leave_window(self, job_id: int, now: float) -> ClaimedJob | None:
        if self._closed:
            if job_id not in self._still_running:
                raise ConnectionLost("The channel is closed; what it had claimed went back.")
            self._still_running.discard(job_id)
        self.moved_at = now
        self._begun.pop(job_id, None)
        self._running.discard(job_id)
        return self._out.pop(job_id, None)

    def _end_key(self, job: ClaimedJob | None) -> None:
        """The next job of its order key comes into its queue: the same transaction can claim it."""
        if job is not None and job.order_key is not None:
            self._settled.ended_keys[job.id] = job.order_key
            self.look([job.queue])

    # -- the end ----------------------------------------------------------------------------------

    def halt(self) -> None:
        """Claim no more. What is claimed can be taken and settled."""
        self._may_claim = False

    def close(self, still_running: Collection[int], now: float) -> None:
        """Claim no more, and give back what is not delivered.

        Args:
            still_running: Jobs that are still running; each may be settled later.
            now: The time.
        """
        self._queues.clear()
        self._maybe_ready.clear()
        undelivered = [*self._jobs, *self._suspects.give_back()]
        self._settled.released.extend(job.id for job in undelivered)
        self._jobs.clear()
        self._still_running = set(still_running)
        self._closed = True
        self.moved_at = now

    @property
    def is_closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed

    @property
    def is_finished(self) -> bool:
        """Whether it is closed, and all is settled."""
        return self._closed and not (self._settled or self._stuck or self._still_running)

    @property
    def has_running(self) -> bool:
        """Whether jobs run on that were running when it was closed."""
        return bool(self._still_running)

    @property
    def known_ids(self) -> set[int]:
        """After the end: the jobs that run on, and those that are to be settled."""
        return self._still_running.union((self._settled + self._stuck).ids)

    def abandon(self) -> int:
        """Settle no more what could not be settled; returns how many jobs that are."""
        left = self._settled + self._stuck
        self._settled, self._stuck = Settlement(), Settlement()
        return len(left.ids)

    # -- turns ------------------------------------------------------------------------------------

    def wake_at(self, now: float) -> float:
        """The time of the next turn; infinite when there is none until something changes.

        Ask after each change: the first ack, or the first free place, begins a batch.
        """
        limit = self._limit()
        if not (limit or self._settled):
            self._batch_until = None
        elif self._is_urgent(limit):
            return now
        elif self._batch_until is None:
            self._batch_until = now + _BATCH
        if self._may_start_suspect(now) and self._is_slot_free(now):
            return now
        times = [self._stale_at()]
        if self._batch_until is not None:
            times.append(self._batch_until)
        if self._begun:
            times.append(next(iter(self._begun.values())) + _LONG)
        if self._suspects:
            times.append(now + _LONG)
        if self._stuck:
            times.append(self._stuck_until)
        return min(times)

    def _is_urgent(self, limit: int) -> bool:
        """Whether a batch is worth its transaction now, or nothing can come that makes it so."""
        whole = min(self._window + self._ahead, self._claim_limit)
        if limit and limit * 2 >= whole:
            return True
        if self._settled.ended_keys and not self._jobs:
            # nothing to do here, and what comes next may wait for just these
            return True
        return bool(self._settled) and (self._closed or not (self._out or self._jobs))

    @property
    def unsure_queues(self) -> set[str]:
        """The queues to claim from now that may be empty."""
        return self._maybe_ready - self._ready_queues if self._limit() else set()

    def narrow(self, asked: Collection[str], ready: Collection[str]) -> None:
        """Of the queues that were asked about, these have jobs."""
        self._ready_queues |= set(ready)
        self._maybe_ready -= set(asked) - set(ready)

    def next_turn(self, now: float) -> Turn | None:
        """What to do in one transaction now, None for nothing."""
        if now >= self._stale_at():
            self._return_stale()
        self._keep_pace(now)
        settlement, self._settled, self._batch_until = self._settled, Settlement(), None
        settlement.started += self._deliveries_to_write(now)
        if self._stuck and now >= self._stuck_until:
            settlement, self._stuck = self._stuck + settlement, Settlement()
        try:
            return self._planned(settlement, now)
        except BaseException:
            # the consumer cannot say how many slots it has
            self.failed(settlement, now)
            raise

    def _planned(self, settlement: Settlement, now: float) -> Turn | None:
        """The turn that settles this, starts a suspect if it is time, and claims."""
        if self._may_start_suspect(now) and self._is_slot_free(now):
            settlement.started.append(self._suspects.start().id)
        limit = self._limit()
        if not limit:
            return Turn(settlement) if settlement else None
        starts = self._starts()
        queue = next(name for name in self._queues if name in self._maybe_ready)
        self._queues.remove(queue)
        self._queues.append(queue)
        return Turn(settlement, queue, limit, starts)

    def settled(self, turn: Turn, jobs: Sequence[ClaimedJob], now: float) -> None:
        """The turn was committed, and has claimed these jobs."""
        suspect = self._suspects.starting
        if suspect is not None and suspect.id in turn.settlement.started:
            self._jobs.appendleft(self._suspects.started(suspect))
        if turn.queue not in self._queues:
            # it is consumed no more, or all is closed
            self._settled.released.extend(job.id for job in jobs)
            return
        for job in jobs:
            if job.recoveries and not job.is_started:
                self._suspects.add(job)
            else:
                self._jobs.append(job)
        if jobs:
            self._taken_at = now
        if turn.queue is not None and len(jobs) < turn.limit:
            self._maybe_ready.discard(turn.queue)
            self._ready_queues.discard(turn.queue)

    def failed(self, settlement: Settlement, now: float) -> None:
        """This could not be settled; it goes with the next turn."""
        self._cancel_start(settlement, now)
        self._settled = settlement + self._settled

    def postpone(self, settlement: Settlement, until: float) -> None:
        """This could not be settled; it goes with the first turn from that time on."""
        self._cancel_start(settlement, until)
        self._stuck_until = min(self._stuck_until, until) if self._stuck else until
        self._stuck += settlement

    def _cancel_start(self, settlement: Settlement, until: float) -> None:
        """The start of a suspect could not be written, so it has to wait."""
        suspect = self._suspects.starting
        if suspect is not None and suspect.id in settlement.started:
            settlement.started.remove(suspect.id)
            self._suspects.postpone(until)

    # -- figures ----------------------------------------------------------------------------------

    def _held(self) -> int:
        """How many jobs are claimed and not settled."""
        return len(self._out) + len(self._jobs) + len(self._suspects)

    def _limit(self) -> int:
        """How many jobs to claim now."""
        if not (self._maybe_ready and self._may_claim):
            return 0
        return min(max(0, self._window + self._ahead - self._held()), self._claim_limit)

    def _starts(self) -> int:
        """How many of the jobs that are claimed now begin at once."""
        slots = 1 if self._slots is None else self._slots()
        return max(0, slots - self._held())

    def _may_start_suspect(self, now: float) -> bool:
        return self._suspects.may_start(self._out, now) and not self._closed

    def _is_slot_free(self, now: float) -> bool:
        """Whether what is delivered next runs next."""
        if self._slots is None or len(self._out) < self._slots():
            return True
        # What the consumer has, it keeps to itself: a batch, or the slots of a rate limit.
        return not self._running and now > self.moved_at + _STILL

    def _deliveries_to_write(self, now: float) -> list[int]:
        """The jobs that have been running for long enough to write that they were delivered."""
        running = [job_id for job_id, since in self._begun.items() if since + _LONG / 2 <= now]
        for job_id in running:
            del self._begun[job_id]
        return running

    def _keep_pace(self, now: float) -> None:
        """Claim ahead as much as was taken in a moment, on the average since the last turn."""
        pace = (self._taken - self._last_taken) / max(now - self._last_turn, _AHEAD / 10)
        self._ahead = min(self._claim_limit, int(pace * _AHEAD)) if self._may_claim_ahead else 0
        self._last_turn, self._last_taken = now, self._taken

    def _stale_at(self) -> float:
        """When the jobs that were claimed ahead go back, as none was taken for so long."""
        is_ahead = self._jobs and self._held() > self._window
        return self._taken_at + _STALE if is_ahead else math.inf

    def _return_stale(self) -> None:
        """Give back what was claimed ahead, the last first: other consumers may be free."""
        number = min(len(self._jobs), self._held() - self._window)
        self._return_undelivered(list(self._jobs)[len(self._jobs) - number :])
