"""The doorbell: an idle consumer sleeps inside an SQL statement, and publishers interrupt it.

An idle consumer holds a named lock, the bell of its queue, on a connection that it uses for
nothing else, and runs ``SLEEP`` there. After committing a job, the publisher asks the server which
connection holds the bell, and ends its statement with ``KILL QUERY``. No wake-up is lost: either
the sleeper's statement sees the job, or its bell was held before the job was committed, and rings.
The result of the statement is never trusted: after each ring the consumer tries to claim.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from celery_mysqllock.exceptions import (
    ConnectionLost,
    DatabaseError,
    Interrupted,
)
from celery_mysqllock.jobs.lock_names import SLOTS
from celery_mysqllock.jobs.repeated import RepeatedWarnings
from celery_mysqllock.mysql import wake
from celery_mysqllock.mysql.threads import start_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from celery_mysqllock.jobs.lock_names import LockNames
    from celery_mysqllock.mysql import Session

logger = logging.getLogger(__name__)

# Seconds that the thread waits after a ring until its consumer says what to listen for next.
_MOMENT = 0.05
# How often in a row the statement may see a job that its consumer then cannot claim: once is usual,
# when another consumer is faster.
_TOLERATED = 3
_TO_THE_END, _NOT_AT_ALL = 0, 2
# Seconds until a statement that failed is tried again.
_RETRY = 1.0
# How many locks one statement takes; MySQL and MariaDB have a limit of 4096 columns.
_COLUMNS = 500
# Seconds. The statement keeps a metadata lock on the job table while it sleeps: an ALTER TABLE
# waits for its end, and all other statements wait for the ALTER TABLE.
_SLEEP = 10


class Wanted(NamedTuple):
    """What a consumer wants to be woken for.

    Attributes:
        jobs: Queues in which a job counts.
        messages: Queues in which a message beside the job table counts.
    """

    jobs: frozenset[str] = frozenset()
    messages: frozenset[str] = frozenset()

    @property
    def queues(self) -> frozenset[str]:
        """All of them."""
        return self.jobs | self.messages

    def is_in(self, other: Wanted) -> bool:
        """Whether the other one wants all of this."""
        return self.jobs <= other.jobs and self.messages <= other.messages


class Bell:
    """The sleeping side: a thread that wakes its consumer when a job may be there.

    Args:
        session: A session for the bell alone; opened and closed by this thread.
        names: The names of the bells.
        has_work: Gives an SQL expression that is true when one of those queues has something to
            take, with its parameters; as ``Work.is_any``.
        on_ring: Called from the thread with the queues that something may have come to.
        on_error: Called from the thread when the session is lost.
    """

    def __init__(
        self,
        session: Session,
        names: LockNames,
        has_work: Callable[[Collection[str], Collection[str]], tuple[str, tuple[str, ...]]],
        on_ring: Callable[[frozenset[str]], None],
        on_error: Callable[[ConnectionLost], None],
    ) -> None:
        self._session = session
        self._names = names
        self._has_work = has_work
        self._on_ring = on_ring
        self._on_error = on_error
        self._changed = threading.Condition()
        self._wanted = Wanted()
        self._has_queues = True
        self._asleep_for: Wanted | None = None
        self._false_alarms = 0
        self._bells_of: list[str] = []
        self._stopped = False
        self._warnings = RepeatedWarnings(logger)

    def start(self) -> None:
        """Open the session and begin to listen.

        Raises:
            CannotConnect, LoginRefused: There is no session.
        """
        self._session.open()
        try:
            # The statement would keep its view of the tables while it sleeps, and the server all
            # that was deleted since then, which every claim would have to read past.
            self._session.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED")
        except BaseException:
            self._session.close()
            raise
        start_thread(self._run, "mysqllock-bell", self._crash)

    def stop(self, waker: Session) -> None:
        """Listen no more, and free the bells.

        Args:
            waker: A session to kill the sleeping one with. The server does not notice for seconds
                that a client which sleeps in a statement has hung up; until then the bell would be
                rung in vain.
        """
        with self._changed:
            self._stopped = True
            self._changed.notify()
        try:
            waker.execute("KILL %s", (self._session.connection_id,))
        except DatabaseError:
            # one of the two is gone already, most likely
            pass
        finally:
            self._session.shutdown()

    def listen(self, wanted: Wanted, waker: Session) -> None:
        """Wake the consumer from now on when something comes that it wants.

        Args:
            wanted: What it wants; nothing to be left alone.
            waker: A session to interrupt the sleep with, when that is for less.
        """
        with self._changed:
            self._wanted = wanted
            self._has_queues = True
            self._changed.notify()
            asleep_for = self._asleep_for
        if asleep_for is not None and not wanted.is_in(asleep_for):
            wake(waker, self._session.connection_id)

    def confirm_ring(self) -> None:
        """The consumer has found something: the last ring was no false alarm."""
        self._false_alarms = 0

    def _run(self) -> None:
        try:
            while not self._stopped:
                self._round()
        except ConnectionLost as error:
            self._end(error)

    def _crash(self, error: BaseException) -> None:
        self._end(ConnectionLost(f"The doorbell has ended with an error: {error!r}"))

    def _end(self, error: ConnectionLost) -> None:
        # The server frees the bells: publishers ring another consumer.
        self._session.shutdown()
        if not self._stopped:
            self._on_error(error)

    def _round(self) -> None:
        wanted = self._next_wanted()
        if not wanted.queues:
            # publishers must ring another consumer
            self._release_bells()
            self._await_wanted()
        elif self._sleep(wanted):
            with self._changed:
                self._has_queues = False
            # The consumer looks at once, while the bells are freed for others.
            self._on_ring(wanted.queues)
            self._release_bells()

    def _next_wanted(self) -> Wanted:
        with self._changed:
            # After a ring the consumer claims, and says in a moment what to listen for.
            self._changed.wait_for(lambda: self._has_queues or self._stopped, _MOMENT)
            # A job that the statement sees and its consumer cannot claim is locked by another.
            if self._false_alarms > _TOLERATED:
                self._changed.wait_for(lambda: self._stopped, _pause_after(self._false_alarms))
            wanted = Wanted() if self._stopped else self._wanted
            self._asleep_for = wanted if wanted.queues else None
        return wanted

    def _await_wanted(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._wanted.queues or self._stopped)

    def _sleep(self, wanted: Wanted) -> bool:
        """Sleep; False when nothing happened, and the bells are kept for more of it."""
        work, values = self._has_work(sorted(wanted.jobs), sorted(wanted.messages))
        slept: int | None = None
        try:
            self._take_bells(sorted(wanted.queues))
            # One statement: between two, a KILL QUERY would be lost; in a script of two it leaves
            # the client waiting for the second answer (MariaDB 10.11, MySQL 9.7). An interrupted
            # SLEEP gives 1, or an error.
            with self._session.extend_timeout(_SLEEP):
                slept = self._session.value(
                    f"SELECT IF({work}, {_NOT_AT_ALL}, SLEEP(%s))", [*values, _SLEEP]
                )
            self._false_alarms = self._false_alarms + 1 if slept == _NOT_AT_ALL else 0
        except Interrupted:
            self._false_alarms = 0
        except DatabaseError as error:
            if isinstance(error, ConnectionLost) or not error.is_passing:
                raise
            self._pause_for(error)
        finally:
            with self._changed:
                self._asleep_for = None
        return slept != _TO_THE_END

    def _pause_for(self, error: DatabaseError) -> None:
        """Wait out a passing error: a table that is altered or renamed, a limit on statements."""
        self._warnings.warn("The doorbell cannot listen now, trying again: %s", error)
        self._release_bells()
        with self._changed:
            self._changed.wait_for(lambda: self._stopped, _RETRY)

    def _take_bells(self, queues: list[str]) -> None:
        if queues != self._bells_of:
            self._release_bells()
            self._bells_of = queues
            # slot by slot: mostly the first ones are free, and one statement takes them all
            for slot in range(SLOTS):
                bells = [self._names.bells(queue)[slot] for queue in queues]
                queues = [
                    queue
                    for queue, is_held in zip(queues, self._take_free(bells), strict=True)
                    if is_held
                ]
                if not queues:
                    return

    def _take_free(self, names: Sequence[str]) -> list[bool]:
        """Take those of the bells that are free; returns for each whether another has it."""
        taken: list[Any] = []
        for start in range(0, len(names), _COLUMNS):
            part = names[start : start + _COLUMNS]
            asked = ", ".join(["GET_LOCK(%s, 0)"] * len(part))
            (answers,) = self._session.query(f"SELECT {asked}", tuple(part))
            taken += answers
        return [answer != 1 for answer in taken]

    def _release_bells(self) -> None:
        had, self._bells_of = self._bells_of, []
        while had and self._session.is_open:
            try:
                self._session.value("SELECT RELEASE_ALL_LOCKS()")
            except Interrupted:
                continue
            return


def _pause_after(false_alarms: int) -> float:
    """Seconds to do nothing after false alarms: longer each time, one at most."""
    return float(min(1.0, 0.001 * 2 ** min(false_alarms - _TOLERATED, 10)))
