"""One thread that claims jobs ahead and settles the done ones, in few transactions.

Claims and settlements share transactions, because commits are what costs: while one is under way,
acks gather for the next, which deletes them all and claims as many jobs again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from celery_mysqllock.exceptions import ConnectionLost, DatabaseError, MySQLLockError
from celery_mysqllock.jobs.table import Settlement

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_mysqllock.jobs.table import ClaimedJob, JobTable
    from celery_mysqllock.mysql import Session

logger = logging.getLogger(__name__)

# Seconds for which a few free places of a window wait for more, so that one claim takes several.
_GATHER = 0.02
# Seconds until a statement that the server could not run (disk full, read only) is tried again.
_RETRY = 1.0
# Seconds that closing waits for the last settlements.
_FLUSH = 30.0


class Stream:
    """Jobs for one consumer, claimed ahead up to a window.

    Args:
        session: A session for this thread alone; it is kept alive, and closed at the end.
        table: The job table through that session.
        owner: The consumer's identity.
        claim_limit: Most jobs that one statement claims.
        on_jobs: Called from the thread when there are jobs to take, or ``error`` is set.
        on_dry: Called from the thread when the queues are empty and there is room: to be told by
            ``look`` when something comes.
    """

    def __init__(  # noqa: PLR0913 - each is named at the call
        self,
        session: Session,
        table: JobTable,
        owner: str,
        *,
        claim_limit: int,
        on_jobs: Callable[[], None],
        on_dry: Callable[[], None],
    ) -> None:
        self.error: MySQLLockError | None = None
        self._session = session
        self._table = table
        self._owner = owner
        self._claim_limit = claim_limit
        self._on_jobs = on_jobs
        self._on_dry = on_dry
        self._queues: deque[str] = deque()
        self._window = 0
        self._out = 0
        self._jobs: deque[ClaimedJob] = deque()
        self._settled = Settlement()
        self._to_look: set[str] = set()
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="mysqllock-stream", daemon=True)

    # -- what the consumer says -------------------------------------------------------------------

    def start(self) -> None:
        """Begin to claim."""
        self._thread.start()

    def consume(self, queues: list[str]) -> None:
        """Claim from these queues from now on, in turn."""
        with self._changed:
            self._queues = deque(queues)
            self._to_look = set(queues)
            self._changed.notify()

    def set_window(self, window: int) -> None:
        """Have at most so many jobs out: claimed and not settled."""
        with self._changed:
            self._window = window
            self._changed.notify()

    def look(self, queues: frozenset[str]) -> None:
        """Something may have come to these queues."""
        with self._changed:
            self._to_look |= queues & set(self._queues)
            self._changed.notify()

    def take(self) -> ClaimedJob | None:
        """The next claimed job, None when there is none just now.

        Raises:
            MySQLLockError: The stream has ended with this error.
        """
        with self._changed:
            if self._jobs:
                return self._jobs.popleft()
        if self.error is not None:
            raise self.error
        return None

    def ack(self, job_id: int) -> None:
        """The job is done; it goes with the next transaction, at once when none is under way."""
        self._settle(self._settled.acked, job_id)

    def release(self, job_id: int) -> None:
        """The job goes back to its queue."""
        self._settle(self._settled.released, job_id)

    def bury(self, job_id: int, reason: str) -> None:
        """The job is dead, for this reason."""
        with self._changed:
            self._settled.buried.append((job_id, reason))
            self._out -= 1
            self._changed.notify()

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
            self._settled.released.extend(job.id for job in back)
            self._out -= len(back)
            self._changed.notify()

    def close(self) -> None:
        """Settle what is to be settled, give back what nobody has taken, and end the session."""
        with self._changed:
            self._queues.clear()
            self._settled.released.extend(job.id for job in self._jobs)
            self._jobs.clear()
            self._stopping = True
            self._changed.notify()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(_FLUSH)
        self._session.close()

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

    def _settle(self, kind: list[int], job_id: int) -> None:
        with self._changed:
            kind.append(job_id)
            self._out -= 1
            self._changed.notify()

    # -- the thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._await_work():
                self._turn()
        except MySQLLockError as error:
            self.error = error
            self._on_jobs()

    def _await_work(self) -> bool:
        """Wait until there is something to settle or to claim; False when all is done."""
        idle = max(1.0, (self._session.idle_timeout or 30) / 3)
        with self._changed:
            while True:
                if self._settled:
                    return True
                if self._stopping:
                    return False
                if self._to_look and self._room() and self._is_worthwhile():
                    return True
                if not self._changed.wait(idle):
                    return True

    def _is_worthwhile(self) -> bool:
        """Whether half of the window is free, or has not become so in a moment."""
        if self._room() * 2 >= min(self._window, self._claim_limit):
            return True
        before = self._room()
        self._changed.wait(_GATHER)
        return self._room() <= before or bool(self._settled)

    def _room(self) -> int:
        return max(0, min(self._window - self._out, self._claim_limit))

    def _turn(self) -> None:
        with self._changed:
            settled, self._settled = self._settled, Settlement()
            queue = next((name for name in self._queues if name in self._to_look), None)
            limit = self._room() if queue is not None else 0
            if queue is not None:
                self._queues.remove(queue)
                self._queues.append(queue)
        if not settled and not limit:
            self._session.ping()
            return
        try:
            jobs = self._table.turn(settled, self._owner, queue, limit)
        except ConnectionLost:
            raise
        except DatabaseError as error:
            self._put_back(settled, error)
            return
        self._note(queue, limit, jobs)

    def _put_back(self, settled: Settlement, error: DatabaseError) -> None:
        if not error.is_passing:
            raise error
        logger.error("The server cannot do it now, trying again in %s s: %s", _RETRY, error)
        with self._changed:
            self._settled = settled + self._settled
        time.sleep(_RETRY)

    def _note(self, queue: str | None, limit: int, jobs: list[ClaimedJob]) -> None:
        with self._changed:
            self._jobs.extend(jobs)
            self._out += len(jobs)
            if queue is not None and limit and len(jobs) < limit:
                self._to_look.discard(queue)
        if jobs:
            self._on_jobs()
        if self.is_dry:
            self._on_dry()
