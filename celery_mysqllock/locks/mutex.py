"""Takes and frees locks on a session: ``Mutex`` for one holder, ``Semaphore`` for several.

A caller that must wait does so in the server's own queue, inside of GET_LOCK.
"""

from __future__ import annotations

import random
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from celery_mysqllock.exceptions import (
    Interrupted,
    LockError,
    StatementTimeout,
    TransientError,
)
from celery_mysqllock.locks.clock import Deadline, now
from celery_mysqllock.mysql import get_lock, release_lock, used_by, wake

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celery_mysqllock.exceptions import DatabaseError
    from celery_mysqllock.mysql import Session

# Seconds that one GET_LOCK waits at most. Each further one goes to the end of the queue.
_SLICE = 60
# Seconds after which the first in the queue looks at all slots, in case it was not woken.
_LOOK = 1
_ENDED_BY_SERVER = (Interrupted, StatementTimeout, TransientError)


class Acquisition(NamedTuple):
    """A lock that a session has taken.

    Attributes:
        name: The lock's name.
        sent: When the statement that took it was sent, on the clock of ``clock.now``.
        reuse: Whether the session may take another lock later. Not when a KILL QUERY may be on
            its way to it.
    """

    name: str
    sent: float
    reuse: bool = True


class Mutex:
    """A lock of one holder: GET_LOCK itself.

    The server serves waiting sessions in the order in which they came (as measured on MySQL 9.7 and
    MariaDB 10.11; neither promises it). A session that waits for longer than a minute goes to the
    end of the queue once a minute.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def take(self, session: Session, deadline: Deadline) -> Acquisition | None:
        """Take the lock for the session, None when the time is over.

        After an error it is not known what the session holds: close it.

        Raises:
            LockError: The wait was ended by KILL QUERY.
            ConnectionLost: The session has ended.
        """
        return _take(session, self._name, deadline)

    def free(self, session: Session, name: str) -> bool:
        """Free what ``take`` has taken; False when the session did not hold it any more.

        Raises:
            ConnectionLost: The session has ended, and the lock with it.
        """
        return _free(session, name)


class _SlotStatements(NamedTuple):
    at_once: str
    if_nobody_waits: str
    as_first: str


@lru_cache(maxsize=64)
def _slot_statements(count: int) -> _SlotStatements:
    """The statements for so many slots; each answers with a slot's number, -1 for none."""
    free = " ".join(f"WHEN GET_LOCK(%s, 0) = 1 THEN {slot}" for slot in range(count))
    mine = " ".join(f"WHEN IS_USED_LOCK(%s) = CONNECTION_ID() THEN {slot}" for slot in range(count))
    return _SlotStatements(
        at_once=f"SELECT CASE {free} ELSE -1 END",
        if_nobody_waits=f"SELECT IF(IS_FREE_LOCK(%s), CASE {free} ELSE -1 END, -1)",
        # A KILL QUERY may have hit the last one after it had taken a slot: hence "mine" first.
        as_first=f"SELECT CASE {mine} {free} WHEN GET_LOCK(%s, %s) = 1 THEN 0 ELSE -1 END",
    )


class Semaphore:
    """A lock of several holders: a named lock for each slot, and one to queue for.

    A caller that need not wait takes any free slot with one statement. A caller that must wait
    queues for the wait lock, as for a ``Mutex``. The session that holds the wait lock is the first
    in the queue: it waits for one of the slots. A session that frees another slot sees that the
    wait lock is held, and wakes its holder with KILL QUERY. So there is no polling, and waiting
    callers get slots in the order in which they came. A caller that does not wait (``acquire(0)``)
    may overtake the first one. When a holder dies without freeing its slot, or is another MySQL
    user that may not wake it, the first one sees that within a second.

    Args:
        names: The locks' names, one for each slot.
        wait_lock: The wait lock's name.
    """

    def __init__(self, names: Sequence[str], wait_lock: str) -> None:
        self._names = tuple(names)
        self._wait_lock = wait_lock
        self._sql = _slot_statements(len(self._names))

    def take(self, session: Session, deadline: Deadline) -> Acquisition | None:
        """As in ``Mutex``."""
        # Each caller begins at another slot, so that not all try the same one first.
        start = random.randrange(len(self._names))  # noqa: S311 - no secret
        order = self._names[start:] + self._names[:start]
        sent = now()
        try:
            if deadline.is_over:
                slot = session.select_int(self._sql.at_once, *order)
            else:
                slot = session.select_int(self._sql.if_nobody_waits, self._wait_lock, *order)
        except _ENDED_BY_SERVER as error:
            raise _wait_ended(self._wait_lock, error) from error
        if slot is not None and slot >= 0:
            return Acquisition(order[slot], sent)
        if deadline.is_over or _take(session, self._wait_lock, deadline) is None:
            return None
        acquisition = self._take_as_first(session, order, deadline)
        if acquisition is None:
            # This frees the wait lock. A KILL QUERY may be on its way to this session.
            session.close()
        else:
            _free(session, self._wait_lock)
        return acquisition

    def _take_as_first(
        self, session: Session, order: tuple[str, ...], deadline: Deadline
    ) -> Acquisition | None:
        while True:
            seconds = deadline.slice(_LOOK)
            sent, slot = now(), None
            try:
                with session.extend_timeout(seconds):
                    slot = session.select_int(self._sql.as_first, *order, *order, order[0], seconds)
            except Interrupted:
                pass  # woken: look again
            if slot is not None and slot >= 0:
                return Acquisition(order[slot], sent, reuse=False)
            if deadline.is_over:
                return None

    def free(self, session: Session, name: str) -> bool:
        """As in ``Mutex``; wakes the first in the queue."""
        while True:
            try:
                released, first = session.query(
                    "SELECT RELEASE_LOCK(%s), IS_USED_LOCK(%s)", (name, self._wait_lock)
                )[0]
            except Interrupted:
                continue
            if not released and not _free(session, name):
                return False
            wake(session, first)
            return True


def _take(session: Session, name: str, deadline: Deadline) -> Acquisition | None:
    while True:
        seconds, sent = deadline.slice(_SLICE), now()
        try:
            got = get_lock(session, name, seconds)
        except _ENDED_BY_SERVER as error:
            raise _wait_ended(name, error) from error
        if got:
            return Acquisition(name, sent)
        if deadline.is_over:
            return None


def _free(session: Session, name: str) -> bool:
    while not release_lock(session, name):
        # MariaDB answers NULL for a killed statement as well, and then the lock is still held.
        if used_by(session, name) != session.connection_id:
            return False
    return True


def _wait_ended(name: str, error: DatabaseError) -> LockError:
    if isinstance(error, Interrupted):
        return LockError(
            f"The wait for the lock {name!r} was ended by a KILL QUERY. The lock is not held."
        )
    return LockError(f"The server ended the wait for the lock {name!r}: {error}")
