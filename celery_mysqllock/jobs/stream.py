"""One thread that claims jobs ahead and settles the done ones, in few transactions.

Claims and settlements share transactions, because commits are what costs: while one is under way,
acks gather for the next, which deletes them all and claims as many jobs again.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from typing import TYPE_CHECKING

from celery_mysqllock.exceptions import (
    CannotConnect,
    ConnectionLost,
    DatabaseError,
    JobTableError,
    MySQLLockError,
    RowsLocked,
    TransientError,
)
from celery_mysqllock.jobs.counted import counted
from celery_mysqllock.jobs.job import Settlement
from celery_mysqllock.jobs.window import LONG, Window
from celery_mysqllock.mysql.threads import start_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from celery_mysqllock.jobs.job import ClaimedJob
    from celery_mysqllock.jobs.table import JobTable
    from celery_mysqllock.mysql import Session

logger = logging.getLogger(__name__)

# Seconds for which the first ack, or the first free place of a window, waits for more of them while
# other jobs are out: a transaction costs the server as much as ten more jobs in it.
_GATHER = 0.005
# For so many seconds of its consumer's work a stream claims ahead of the window.
_AHEAD = 0.02
# Seconds after which what was claimed ahead and not taken goes back: there are long tasks now.
_STALE = 0.5
# Seconds until what the server could not do (disk full, read only, not there) is tried again.
_RETRY = 1.0
# Seconds until what the server has refused again and again is tried again.
_LONGEST_PAUSE = 60.0
# Seconds that closing waits for the last settlements.
_FLUSH = 20.0
# For so many seconds after somebody had rows locked, it is asked for such before it is settled.
_CAREFUL = 60.0
# From so many queues on, it is asked which of them have jobs before they are claimed from.
_SEVERAL = 3
# The reason of a dead job whose own one the server does not take.
_PLAIN_REASON = (
    "The job cannot run, and the server does not take the reason; the worker's log has it."
)


class Stream(Window):
    """Jobs for one consumer, claimed ahead up to a window.

    When its session is lost it claims no more; but it opens another one to settle what was claimed
    before, for as long as there is something: also after it was closed, while jobs still run.

    Args:
        open_table: Opens a session and the job table through it, for this thread alone.
        owner: The consumer's identity.
        claim_limit: Most jobs that one statement claims.
        on_jobs: Called from the thread when there are jobs to take, or ``error`` is set.
        on_dry: Called from the thread when the queues are empty and there is room: to be told by
            ``look`` when something comes.
        on_end: Called from the thread when all is settled after it was closed.
        is_alone: Whether all that the owner has claimed was claimed by this stream.
        max_deliveries: As for ``Window``.
    """

    def __init__(  # noqa: PLR0913 - each is named at the call
        self,
        open_table: Callable[[], tuple[Session, JobTable]],
        owner: str,
        *,
        claim_limit: int,
        on_jobs: Callable[[], None],
        on_dry: Callable[[], None],
        on_end: Callable[[], None],
        is_alone: Callable[[], bool],
        max_deliveries: int = 0,
    ) -> None:
        super().__init__(claim_limit, on_jobs, max_deliveries=max_deliveries)
        self._open_table = open_table
        self._owner = owner
        self._on_dry = on_dry
        self._on_end = on_end
        self._is_alone = is_alone
        self._has_lost = False
        # what cannot be settled just now, and when it is tried again
        self._stuck = Settlement()
        self._stuck_until, self._pause = 0.0, _RETRY
        self._careful_until = 0.0
        self._give_up_at = math.inf
        self._last_taken, self._last_turn = 0, time.monotonic()
        self._served: set[str] = set()
        # those queues to look into that are known to have jobs
        self._full: set[str] = set()

    def start(self) -> None:
        """Open the session and begin to claim.

        Raises:
            CannotConnect, LoginRefused: There is no session.
        """
        self._session, self._table = self._open_table()
        self._thread = start_thread(self._run, "mysqllock-stream", self._crash)

    def close(self, kept: Collection[int] = ()) -> None:
        """Settle what is to be settled, give back the rest, and end the session.

        Args:
            kept: Jobs that are still running. The session lives on until they are settled.
        """
        self._give_up_at = time.monotonic() + _FLUSH
        self.shut(kept)
        is_quick = not kept and self.error is None
        if is_quick and self._thread is not threading.current_thread():
            self._thread.join(_FLUSH)

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
        while self._await_work():
            if self._closed and self._has_lost:
                self._has_lost = False
                self._release_unknown()
            self._turn()

    def _fail(self, error: MySQLLockError) -> None:
        self._session.close()
        self._has_lost = True
        if self.error is None:
            logger.warning("No more jobs are claimed on this connection: %s", error)
            is_ours = isinstance(error, JobTableError) and not isinstance(error, DatabaseError)
            # Celery connects again, and claims on.
            self.error = ConnectionLost(str(error)) if is_ours else error
            self._on_jobs()
        elif not isinstance(error, (ConnectionLost, CannotConnect)):
            logger.error("Jobs cannot be settled now: %s", error)
            with self._changed:
                self._changed.wait(_RETRY)
                self._give_up()

    def _give_up(self) -> None:
        """Settle no more what cannot be settled for so long after the end."""
        if self._closed and time.monotonic() > self._give_up_at:
            left = self._settled + self._stuck
            if left:
                logger.error("%s not settled, and may run again.", counted(len(left.ids), "job"))
            self._settled, self._stuck, self._kept = Settlement(), Settlement(), set()

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

    def _is_needed(self) -> bool:
        with self._changed:
            is_done = not (self._settled or self._stuck or self._kept)
            return not (self._closed and is_done)

    def _release_unknown(self) -> None:
        """Give back jobs whose claim was committed, and the answer lost."""
        with self._changed:
            known = self._kept.union((self._settled + self._stuck).ids)
        if self._is_alone():
            try:
                self._table.release_others(known, self._owner)
            except TransientError as error:
                logger.warning("Jobs go back when this consumer has ended: %s", error)

    def _await_work(self) -> bool:
        """Wait until there is something to settle or to claim; False when all is done."""
        with self._changed:
            now = time.monotonic()
            rest_until = now + self._patience()
            while not self._is_due() and not (self._closed and self._has_lost):
                if self._closed:
                    self._give_up()
                    if not self._kept and not self._stuck:
                        return False
                gathers = self._gathers = bool(self._settled) or self._can_claim()
                taken = self._taken
                self._rests = not gathers
                until = min(rest_until, self._next_event())
                self._changed.wait(_GATHER if gathers else max(0.0, until - time.monotonic()))
                if gathers:
                    break
                if time.monotonic() >= rest_until:
                    if self._taken == taken:
                        self._release_stale()
                    break
                if self._taken != taken:
                    rest_until = time.monotonic() + self._patience()
            self._gathers = self._rests = False
            return True

    def _is_due(self) -> bool:
        return super()._is_due() or (bool(self._stuck) and time.monotonic() >= self._stuck_until)

    def _patience(self) -> float:
        """Seconds to wait for something to do: the session must be heard of now and then."""
        return _STALE if self._jobs else max(1.0, (self._session.idle_timeout or 30) / 3)

    def _next_event(self) -> float:
        """When to look whether there is something to do, though nobody says so."""
        event = math.inf
        if self._begun:
            event = next(iter(self._begun.values())) + LONG
        if self._suspects:
            event = min(event, time.monotonic() + LONG)
        if self._stuck:
            event = min(event, self._stuck_until)
        return event

    def _release_stale(self) -> None:
        """Give back what was claimed ahead: other consumers may be free."""
        self._ahead = 0
        while self._jobs and self._held() > self._window:
            job = self._jobs.pop()
            self._suspects.forget(job)
            self._settled.released.append(job.id)

    def _keep_pace(self) -> None:
        """Claim ahead as much as was taken in a moment, on the average since the last time."""
        now = time.monotonic()
        pace = (self._taken - self._last_taken) / max(now - self._last_turn, _AHEAD / 10)
        self._ahead = min(self._claim_limit, int(pace * _AHEAD)) if self._may_claim_ahead else 0
        self._last_turn, self._last_taken = now, self._taken

    def _narrow(self) -> None:
        """Of several queues to look into, keep those that have jobs; asked with one statement."""
        with self._changed:
            self._full &= self._to_look
            several = self._to_look - self._full if self._can_claim() else set()
        if len(several) < _SEVERAL:
            return
        try:
            found = self._table.with_jobs(several)
        except DatabaseError as error:
            if isinstance(error, ConnectionLost) or not error.is_passing:
                raise
            return  # then each is claimed from
        with self._changed:
            self._full |= found
            self._to_look -= several - found
        if self.is_dry:
            self._on_dry()

    def _turn(self) -> None:
        self._narrow()
        with self._changed:
            self._keep_pace()
            now = time.monotonic()
            settled, self._settled = self._settled, Settlement()
            settled.started += self._write_down()
            if self._stuck and now >= self._stuck_until:
                settled, self._stuck = self._stuck + settled, Settlement()
            if self._suspects and self._may_suspect_start() and self._is_place_free():
                settled.started.append(self._suspects.start().id)
            queue = next((name for name in self._queues if name in self._to_look), None)
            limit = self._limit() if queue is not None and self._can_claim() else 0
            starts = self._starts() if limit else 0
            if queue is not None:
                self._queues.remove(queue)
                self._queues.append(queue)
                self._served.add(queue)
        if not settled and not limit:
            self._table.keep_alive(self._owner)
            return
        try:
            if now < self._careful_until:
                settled = self._lay_locked_aside(settled)
            jobs = self._table.turn(
                settled,
                self._owner,
                queue,
                limit,
                starts=starts,
                passing_over=now < self._careful_until,
                patience=0.0,
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing is forgotten
            self._fall_back(settled, error)
            return
        self._note(queue, limit, jobs)
        if settled.released or any(not job.seconds for job in settled.put_aside):
            self._ring()
        if any(job.seconds for job in settled.put_aside):
            self._table.ring_sweeper()

    def _lay_locked_aside(self, settled: Settlement) -> Settlement:
        """Keep for later what somebody else has locked, so that it delays nothing but itself."""
        locked = self._table.locked_among(settled.ids)
        if locked:
            self._careful_until = time.monotonic() + _CAREFUL
            self._lay_aside(settled.only(locked), _RETRY)
        return settled.without(locked)

    def _lay_aside(self, settled: Settlement, seconds: float) -> None:
        with self._changed:
            self._unstart(settled, seconds)
            until = time.monotonic() + seconds
            self._stuck_until = min(self._stuck_until, until) if self._stuck else until
            self._stuck += settled

    def _keep(self, settled: Settlement) -> None:
        """Settle it with the next transaction."""
        with self._changed:
            self._unstart(settled, 0.0)
            self._settled = settled + self._settled

    def _unstart(self, settled: Settlement, seconds: float) -> None:
        """The start of a suspect could not be written down, so it has to wait."""
        suspect = self._suspects.starting
        if suspect is not None and suspect.id in settled.started:
            settled.started.remove(suspect.id)
            self._suspects.postpone(seconds)

    def _fall_back(self, settled: Settlement, error: Exception) -> None:
        """Do what there is to do when jobs could not be settled and claimed together.

        Raises:
            MySQLLockError: No more can be claimed; what is to be settled is kept.
        """
        was_careful = time.monotonic() < self._careful_until
        lasts = not isinstance(error, DatabaseError) or not error.is_passing
        if settled and lasts and not isinstance(error, ConnectionLost):
            self._settle_each(settled)
            return
        self._keep(settled)
        if isinstance(error, RowsLocked) and not was_careful:
            self._careful_until = time.monotonic() + _CAREFUL
            return
        if lasts:
            raise error
        logger.error("The server cannot do it now, trying again in %s s: %s", _RETRY, error)
        time.sleep(_RETRY)

    def _settle_each(self, settled: Settlement) -> None:
        """Settle jobs one by one, so that one that cannot be settled takes no other with it."""
        pause, self._pause = self._pause, _RETRY
        for job_id in settled.ids:
            part = settled.only({job_id})
            try:
                self._table.turn(part, self._owner, None, 0, passing_over=True, patience=0.0)
            except ConnectionLost:
                ids = settled.ids
                self._keep(settled.only(set(ids[ids.index(job_id) :])))
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this job alone
                logger.error(  # noqa: TRY400 - nothing of ours is wrong
                    "Job %d cannot be settled, trying again in %g s: %s", job_id, pause, error
                )
                self._pause = min(pause * 2, _LONGEST_PAUSE)
                part.buried = [(job_id, _PLAIN_REASON) for job_id, _ in part.buried]
                self._lay_aside(part, pause)
        self._start_suspect()

    def _start_suspect(self) -> None:
        with self._changed:
            suspect = self._suspects.started()
            if suspect is not None:
                self._jobs.appendleft(suspect)
        if suspect is not None:
            self._on_jobs()

    def _note(self, queue: str | None, limit: int, jobs: list[ClaimedJob]) -> None:
        self._start_suspect()
        with self._changed:
            if self._closed:
                self._settled.released.extend(job.id for job in jobs)
            else:
                for job in jobs:
                    if job.recoveries and not job.is_started:
                        self._suspects.add(job)
                    else:
                        self._jobs.append(job)
            if queue is not None and limit and len(jobs) < limit:
                self._to_look.discard(queue)
        if jobs:
            self._on_jobs()
        if self.is_dry:
            self._on_dry()

    def _ring(self) -> None:
        """Jobs went back to queues of this stream: others may want them, or it may itself."""
        with_jobs = self._table.with_jobs(self._served)
        self._table.ring_each(with_jobs)
        self.look(with_jobs)
