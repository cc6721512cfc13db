"""The thread that claims a consumer's jobs ahead and settles the done ones, in few transactions.

Claims and settlements share transactions, because commits are what costs: while one is under way,
acks gather for the next, which deletes them all and claims as many jobs again.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from celery_mysqllock.exceptions import (
    CannotConnect,
    ConnectionLost,
    DatabaseError,
    JobTableError,
    MySQLLockError,
    RowsLocked,
    TransientError,
)
from celery_mysqllock.jobs.buffer import FetchBuffer, Turn
from celery_mysqllock.jobs.counted import counted
from celery_mysqllock.mysql.threads import start_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from celery_mysqllock.jobs.job import ClaimedJob, Settlement
    from celery_mysqllock.jobs.table import JobTable
    from celery_mysqllock.mysql import Session

logger = logging.getLogger(__name__)
P = ParamSpec("P")
R = TypeVar("R")

# Seconds until what the server could not do (disk full, read only, not there) is tried again.
_RETRY = 1.0
# Seconds until what the server has refused again and again is tried again.
_LONGEST_PAUSE = 60.0
# Seconds that closing waits for the last settlements.
_FLUSH = 20.0
# For so many seconds after another session had rows locked, the server is asked for such rows
# before jobs are settled.
_CAREFUL = 60.0
# From so many queues on, the server is asked which of them have jobs before they are claimed from.
_SEVERAL = 3
# The reason of a dead job when the server does not take its own.
_PLAIN_REASON = (
    "The job cannot run, and the server does not take the reason; the worker's log has it."
)


class Fetcher:
    """Claims and settles jobs for one consumer; safe for any thread.

    When its session is lost it claims no more. It opens another one to settle what was claimed
    before, for as long as there is something: also after it was closed, while jobs still run.

    Args:
        open_table: Opens a session and the job table through it, for this thread alone.
        owner: The consumer's identity.
        claim_limit: Most jobs that one statement claims.
        on_jobs: Called from any thread when there are jobs to take, or ``error`` is set.
        on_drained: Called from the thread when the queues are empty and there is room: to be told
            by ``look`` when something comes.
        on_end: Called from the thread when all is settled after it was closed.
        is_alone: Whether all that the owner has claimed was claimed by this fetcher.
        max_deliveries: How often a job may be given back before it is dead; 0 for no limit.

    Attributes:
        error: Why no more jobs come, None while they do.
    """

    def __init__(  # noqa: PLR0913 - each is named at the call
        self,
        open_table: Callable[[], tuple[Session, JobTable]],
        owner: str,
        *,
        claim_limit: int,
        on_jobs: Callable[[], None],
        on_drained: Callable[[], None],
        on_end: Callable[[], None],
        is_alone: Callable[[], bool],
        max_deliveries: int = 0,
    ) -> None:
        self.error: MySQLLockError | None = None
        self._buffer = FetchBuffer(claim_limit, max_deliveries=max_deliveries)
        self._open_table = open_table
        self._owner = owner
        self._on_jobs = on_jobs
        self._on_drained = on_drained
        self._on_end = on_end
        self._is_alone = is_alone
        self._changed = threading.Condition()
        # until when the thread sleeps; while it is awake, it plans anew before it sleeps
        self._sleeps_until = -math.inf
        self._has_lost = False
        self._pause = _RETRY
        self._careful_until = 0.0
        self._served: set[str] = set()

    def start(self) -> None:
        """Open the session and begin to claim.

        Raises:
            CannotConnect, LoginRefused: There is no session.
        """
        self._session, self._table = self._open_table()
        self._thread = start_thread(self._run, "mysqllock-fetcher", self._crash)

    def close(self, still_running: Collection[int] = ()) -> None:
        """Settle what is to be settled, give back the rest, and end the session.

        Args:
            still_running: Jobs that are still running. The session lives on until they are settled.
        """
        with self._changed:
            self._buffer.close(still_running, time.monotonic())
            self._changed.notify()
        is_quick = not still_running and self.error is None
        if is_quick and self._thread is not threading.current_thread():
            self._thread.join(_FLUSH)

    # -- the buffer, for any thread ---------------------------------------------------------------

    def _change(self, change: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Change the buffer, and wake the thread and the consumer if that is worth it."""
        with self._changed:
            could_take = self._buffer.can_take(time.monotonic())
            result = change(*args, **kwargs)
            now = time.monotonic()
            if now < self._sleeps_until and self._buffer.wake_at(now) < self._sleeps_until:
                self._changed.notify()
            can_take = self._buffer.can_take(now)
        if can_take and not could_take:
            self._on_jobs()
        return result

    def consume(self, queues: list[str]) -> None:
        """Claim from these queues from now on, in turn."""
        self._change(self._buffer.consume, queues)

    def set_window(self, window: int, *, ahead: bool = True) -> None:
        """Have at most so many jobs out, and others claimed ahead where that is allowed."""
        self._change(self._buffer.set_window, window, ahead=ahead)

    def run_in(self, slots: Callable[[], int]) -> None:
        """As ``FetchBuffer.run_in``."""
        self._change(self._buffer.run_in, slots)

    def look(self, queues: Collection[str]) -> None:
        """These queues may have jobs."""
        self._change(self._buffer.look, queues)

    def take(self) -> ClaimedJob | None:
        """The next claimed job, None when there is none just now or the window is full.

        Raises:
            MySQLLockError: No more jobs come, for this reason.
        """
        job = self._change(self._buffer.take, time.monotonic())
        if job is None and self.error is not None:
            raise self.error
        return job

    def begin(self, job_id: int) -> None:
        """The job that was taken has begun to run."""
        self._change(self._buffer.begin, job_id, time.monotonic())

    def ack(self, job_id: int) -> None:
        """The job is done; it goes with the next transaction, at once when none is under way.

        Raises:
            ConnectionLost: The job went back to its queue when the fetcher was closed.
        """
        self._change(self._buffer.ack, job_id, time.monotonic())

    def release(self, job_id: int) -> None:
        """The job goes back to its queue, and its delivery does not count; errors as in ``ack``."""
        self._change(self._buffer.release, job_id, time.monotonic())

    def requeue(self, job_id: int, why: Callable[[], str], *, deliveries: int = 0) -> None:
        """The job has failed: it goes back, or is dead; as ``FetchBuffer.requeue``."""
        self._change(self._buffer.requeue, job_id, why, time.monotonic(), deliveries=deliveries)

    def defer(self, job_id: int, seconds: float, *, is_unknown: bool = False) -> None:
        """The job goes back to its queue after so many seconds; as in ``Deferral``, and ``ack``."""
        self._change(self._buffer.defer, job_id, seconds, time.monotonic(), is_unknown=is_unknown)

    def bury(self, job_id: int, reason: str) -> None:
        """The job is dead, for this reason; errors as in ``ack``."""
        self._change(self._buffer.bury, job_id, reason, time.monotonic())

    def explain(self, job_id: int, reason: str) -> None:
        """Give a job that was buried a better reason."""
        self._change(self._buffer.explain, job_id, reason)

    def forget(self, job_id: int) -> None:
        """The job was given to another queue; it is out no more."""
        self._change(self._buffer.forget, job_id, time.monotonic())

    def withdraw(self, queue: str) -> None:
        """Give back the jobs of the queue that are not delivered."""
        self._change(self._buffer.withdraw, queue)

    @property
    def queues(self) -> set[str]:
        """The queues that it claims from."""
        with self._changed:
            return self._buffer.queues

    @property
    def is_drained(self) -> bool:
        """Whether there is room, and no job in the queues as far as is known."""
        with self._changed:
            return self._buffer.is_drained

    # -- the thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._is_needed():
                try:
                    self._serve()
                except MySQLLockError as error:
                    self._fail(error)
                except Exception as error:
                    logger.exception("The claiming of jobs has failed")
                    self._fail(JobTableError(f"The claiming of jobs has failed: {error!r}"))
                self._come_back()
        finally:
            self._session.close()
            self._on_end()

    def _crash(self, error: BaseException) -> None:
        """Nobody claims or settles any more: the connection is as good as lost."""
        self.error = ConnectionLost(f"The claiming of jobs has ended with an error: {error!r}")
        self._on_jobs()

    def _serve(self) -> None:
        while self._await_turn():
            self._turn()

    def _is_needed(self) -> bool:
        with self._changed:
            return not self._buffer.is_finished

    def _await_turn(self) -> bool:
        """Wait until a turn is worth it, or a sign of life is due; False when all is done."""
        with self._changed:
            now = time.monotonic()
            alive_until = now + max(1.0, (self._session.idle_timeout or 30) / 3)
            while not (self._buffer.is_closed and self._has_lost):
                if self._buffer.is_finished:
                    return False
                now = time.monotonic()
                wake_at = min(self._buffer.wake_at(now), alive_until)
                if wake_at <= now:
                    break
                # what could be tried now is tried: a server that takes no writes passes
                if self._give_up():
                    continue
                self._sleeps_until = wake_at
                self._changed.wait(wake_at - now)
                self._sleeps_until = -math.inf
            return True

    def _turn(self) -> None:
        self._return_unknown()
        self._narrow()
        with self._changed:
            now = time.monotonic()
            turn = self._buffer.next_turn(now)
        if turn is None:
            self._table.claims.keep_alive(self._owner)
            return
        is_careful = now < self._careful_until
        try:
            if is_careful:
                turn = self._without_locked(turn)
            jobs = self._table.claims.settle_and_claim(
                turn.settlement,
                self._owner,
                turn.queue,
                turn.limit,
                starts=turn.starts,
                skip_locked=is_careful,
                patience=0.0,
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing is forgotten
            self._fall_back(turn.settlement, error, is_careful=is_careful)
            return
        self._change(self._buffer.settled, turn, jobs, time.monotonic())
        if jobs:
            # also when there were some to take: the doorbell was right
            self._on_jobs()
        if turn.queue is not None:
            self._served.add(turn.queue)
        self._tell_if_drained()
        self._ring(turn.settlement)

    def _tell_if_drained(self) -> None:
        if self.is_drained:
            self._on_drained()

    def _ring(self, settlement: Settlement) -> None:
        """Jobs went back to queues of this fetcher: others may want them, or it may itself."""
        if settlement.released or any(not job.seconds for job in settlement.deferred):
            with_jobs = self._table.work.with_jobs(self._served)
            self._table.ringer.ring_each(with_jobs)
            self.look(with_jobs)
        if any(job.seconds for job in settlement.deferred):
            self._table.ringer.ring_sweeper()

    def _narrow(self) -> None:
        """Of several queues to claim from, keep those that have jobs; asked with one statement."""
        with self._changed:
            asked = self._buffer.unsure_queues
        if len(asked) < _SEVERAL:
            return
        try:
            ready = self._table.work.with_jobs(asked)
        except DatabaseError as error:
            if isinstance(error, ConnectionLost) or not error.is_passing:
                raise
            return  # then each is claimed from
        with self._changed:
            self._buffer.narrow(asked, ready)
        self._tell_if_drained()

    # -- what cannot be settled just now ----------------------------------------------------------

    def _without_locked(self, turn: Turn) -> Turn:
        """Postpone what another session has locked, so that it delays nothing but itself."""
        locked = self._table.claims.locked_among(turn.settlement.ids)
        if not locked:
            return turn
        now = time.monotonic()
        self._careful_until = now + _CAREFUL
        self._change(self._buffer.postpone, turn.settlement.only(locked), now + _RETRY)
        return replace(turn, settlement=turn.settlement.without(locked))

    def _fall_back(self, settlement: Settlement, error: Exception, *, is_careful: bool) -> None:
        """Do what there is to do when jobs could not be settled and claimed together.

        Raises:
            MySQLLockError: No more can be claimed; what is to be settled is kept.
        """
        is_lasting = not isinstance(error, DatabaseError) or not error.is_passing
        if settlement and is_lasting and not isinstance(error, ConnectionLost):
            self._settle_each(settlement)
            return
        self._change(self._buffer.failed, settlement, time.monotonic())
        if isinstance(error, RowsLocked) and not is_careful:
            self._careful_until = time.monotonic() + _CAREFUL
            return
        if is_lasting:
            raise error
        logger.error("The server cannot do it now, trying again in %s s: %s", _RETRY, error)
        time.sleep(_RETRY)

    def _settle_each(self, settlement: Settlement) -> None:
        """Settle jobs one by one, so that one that cannot be settled takes no other with it."""
        pause, self._pause = self._pause, _RETRY
        ids = settlement.ids
        for number, job_id in enumerate(ids):
            part = settlement.only({job_id})
            try:
                self._table.claims.settle_and_claim(
                    part, self._owner, skip_locked=True, patience=0.0
                )
            except ConnectionLost:
                left = settlement.only(set(ids[number:]))
                self._change(self._buffer.failed, left, time.monotonic())
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this job alone
                logger.error(  # noqa: TRY400 - nothing of ours is wrong
                    "Job %d cannot be settled, trying again in %g s: %s", job_id, pause, error
                )
                self._pause = min(pause * 2, _LONGEST_PAUSE)
                part.buried = [(job_id, _PLAIN_REASON) for job_id, _ in part.buried]
                self._change(self._buffer.postpone, part, time.monotonic() + pause)
            else:
                self._change(self._buffer.settled, Turn(part), (), time.monotonic())

    # -- a lost session ---------------------------------------------------------------------------

    def _fail(self, error: MySQLLockError) -> None:
        self._session.close()
        self._has_lost = True
        if self.error is None:
            logger.warning("No more jobs are claimed on this connection: %s", error)
            is_ours = isinstance(error, JobTableError) and not isinstance(error, DatabaseError)
            with self._changed:
                self._buffer.halt()
            # Celery connects again, and claims on.
            self.error = ConnectionLost(str(error)) if is_ours else error
            self._on_jobs()
        elif not isinstance(error, (ConnectionLost, CannotConnect)):
            logger.error("Jobs cannot be settled now: %s", error)
            with self._changed:
                self._changed.wait(_RETRY)
                self._give_up()

    def _come_back(self) -> None:
        """Open another session as soon as the server lets it, to settle what is out."""
        while self._is_needed():
            try:
                self._session, self._table = self._open_table()
            except MySQLLockError as error:
                logger.debug("No session to settle jobs yet: %s", error)
                with self._changed:
                    self._changed.wait(_RETRY)
            else:
                return

    def _return_unknown(self) -> None:
        """Give back, after the end, jobs whose claim was committed and the answer lost."""
        with self._changed:
            if not (self._buffer.is_closed and self._has_lost):
                return
            self._has_lost = False
            known = self._buffer.known_ids
        if self._is_alone():
            try:
                self._table.claims.release_others(known, self._owner)
            except TransientError as error:
                logger.warning("Jobs go back when this consumer has ended: %s", error)

    def _give_up(self) -> bool:
        """Settle no more what could not be settled for so long after the last job has ended.

        Returns:
            Whether there was something.
        """
        if not self._buffer.is_closed or self._buffer.has_running:
            return False
        if time.monotonic() <= self._buffer.moved_at + _FLUSH or not (
            left := self._buffer.abandon()
        ):
            return False
        logger.error("%s not settled, and may run again.", counted(left, "job"))
        return True
