"""One thread that claims jobs ahead and settles the done ones, in few transactions.

Claims and settlements share transactions, because commits are what costs: while one is under way,
acks gather for the next, which deletes them all and claims as many jobs again.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from celery_mysqllock.exceptions import (
    CannotConnect,
    ConnectionLost,
    DatabaseError,
    JobTableError,
    MySQLLockError,
)
from celery_mysqllock.jobs.job import Settlement
from celery_mysqllock.jobs.window import Window
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
# Seconds that closing waits for the last settlements.
_FLUSH = 30.0


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
    ) -> None:
        super().__init__(claim_limit, on_jobs)
        self._open_table = open_table
        self._owner = owner
        self._on_dry = on_dry
        self._on_end = on_end
        self._is_alone = is_alone
        self._has_lost = False
        self._last_taken, self._last_turn = 0, time.monotonic()
        self._served: set[str] = set()

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
            logger.error("Jobs cannot be settled and may run again: %s", error)
            with self._changed:
                self._settled, self._kept = Settlement(), set()

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
            return not self._closed or bool(self._settled) or bool(self._kept)

    def _release_unknown(self) -> None:
        """Give back jobs whose claim was committed, and the answer lost."""
        with self._changed:
            buried = {job_id for job_id, _ in self._settled.buried}
            aside = {job_id for job_id, _ in self._settled.put_aside}
            settled = (self._settled.acked, self._settled.released, self._settled.unclaimed)
            known = self._kept.union(buried, aside, *settled)
        if self._is_alone():
            self._table.release_others(known, self._owner)

    def _await_work(self) -> bool:
        """Wait until there is something to settle or to claim; False when all is done."""
        with self._changed:
            while not self._is_due() and not (self._closed and self._has_lost):
                if self._closed and not self._kept:
                    return False
                gathers = self._gathers = bool(self._settled) or self._can_claim()
                taken = self._taken
                is_over = not self._changed.wait(_GATHER if gathers else self._patience())
                if is_over and self._taken == taken and not gathers:
                    self._unclaim_stale()
                if is_over or gathers:
                    break
            self._gathers = False
            return True

    def _patience(self) -> float:
        """Seconds to wait for something to do: the session must be heard of now and then."""
        return _STALE if self._jobs else max(1.0, (self._session.idle_timeout or 30) / 3)

    def _unclaim_stale(self) -> None:
        """Give back what was claimed ahead: other consumers may be free."""
        self._ahead = 0
        while self._jobs and len(self._jobs) > self._window - self._out:
            self._settled.unclaimed.append(self._jobs.pop().id)

    def _keep_pace(self) -> None:
        """Claim ahead as much as was taken in a moment, on the average since the last time."""
        now = time.monotonic()
        pace = (self._taken - self._last_taken) / max(now - self._last_turn, _AHEAD / 10)
        self._ahead = min(self._claim_limit, int(pace * _AHEAD)) if self._may_claim_ahead else 0
        self._last_turn, self._last_taken = now, self._taken

    def _turn(self) -> None:
        with self._changed:
            self._keep_pace()
            settled, self._settled = self._settled, Settlement()
            queue = next((name for name in self._queues if name in self._to_look), None)
            limit = self._limit() if queue is not None and self._can_claim() else 0
            if queue is not None:
                self._queues.remove(queue)
                self._queues.append(queue)
                self._served.add(queue)
        if not settled and not limit:
            self._table.keep_alive(self._owner)
            return
        try:
            jobs = self._table.turn(settled, self._owner, queue, limit)
        except DatabaseError as error:
            self._put_back(settled, error)
            return
        self._note(queue, limit, jobs)
        if settled.released or settled.unclaimed:
            self._ring()

    def _put_back(self, settled: Settlement, error: DatabaseError) -> None:
        with self._changed:
            self._settled = settled + self._settled
        if isinstance(error, ConnectionLost) or not error.is_passing:
            raise error
        logger.error("The server cannot do it now, trying again in %s s: %s", _RETRY, error)
        time.sleep(_RETRY)

    def _note(self, queue: str | None, limit: int, jobs: list[ClaimedJob]) -> None:
        with self._changed:
            if self._closed:
                self._settled.unclaimed.extend(job.id for job in jobs)
            else:
                self._jobs.extend(jobs)
            if queue is not None and limit and len(jobs) < limit:
                self._to_look.discard(queue)
        if jobs:
            self._on_jobs()
        if self.is_dry:
            self._on_dry()

    def _ring(self) -> None:
        """Jobs went back to queues of this stream: others may want them, or it may itself."""
        for queue in self._served:
            self._table.ring(queue)
        self.look(self._served)
