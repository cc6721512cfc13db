"""Waiting for a lock in the server's own line: of one holder, or of several with a gate."""

from __future__ import annotations

import math
import random
import time
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from celery_mysqllock.exceptions import (
    Interrupted,
    LockError,
    MissingPrivilege,
    NoSuchSession,
    StatementTimeout,
    TransientError,
)
from celery_mysqllock.locks.clock import now
from celery_mysqllock.mysql import get_lock, release_lock, used_by

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celery_mysqllock.exceptions import DatabaseError
    from celery_mysqllock.mysql import Session

# Seconds that one GET_LOCK waits at most. Each further one goes to the end of the line.
_SLICE = 60
# Seconds after which the first in line looks at all slots, should nobody have told it.
_LOOK = 1
_ENDED_BY_SERVER = (Interrupted, StatementTimeout, TransientError)
# Seconds: less than this is no time left. The server's clock may run ahead of ours by a little.
_NOTHING = 0.02


class Taken(NamedTuple):
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


class Deadline:
    """When a wait is over.

    Args:
        wait: Whole seconds from now, None for never.
    """

    def __init__(self, wait: int | None) -> None:
        self._end = math.inf if wait is None else time.monotonic() + wait

    @property
    def is_over(self) -> bool:
        """Whether no time is left."""
        return self._end - time.monotonic() < _NOTHING

    def left(self) -> float | None:
        """Seconds that are left, None when the wait has no end."""
        return None if self._end == math.inf else max(0.0, self._end - time.monotonic())

    def slice(self, most: int) -> int:
        """Whole seconds that a statement may wait now, at most ``most``."""
        left = self.left()
        return most if left is None else 0 if self.is_over else min(most, math.ceil(left))


class Line:
    """The line in front of a lock of one holder: GET_LOCK itself.

    The server serves those who wait in the order in which they came (as measured on MySQL 9.7 and
    MariaDB 10.11; neither promises it). Who waits longer than a minute goes to the end once a
    minute.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def take(self, session: Session, deadline: Deadline) -> Taken | None:
        """Take the lock for the session, None when the time is over.

        After an error nothing is known of what the session holds: close it.

        Raises:
            LockError: Somebody ended the wait with KILL QUERY.
            ConnectionLost: The session has ended.
        """
        return _stand(session, self._name, deadline)

    def free(self, session: Session, name: str) -> bool:
        """Free what ``take`` has taken; False when the session did not hold it any more.

        Raises:
            ConnectionLost: The session has ended, and the lock with it.
        """
        while not release_lock(session, name):
            # MariaDB answers NULL for a killed statement as well, and then the lock is still held.
            if used_by(session, name) != session.connection_id:
                return False
        return True


class _SlotStatements(NamedTuple):
    at_once: str
    if_no_line: str
    first: str


@lru_cache(maxsize=64)
def _slot_statements(count: int) -> _SlotStatements:
    """The statements for so many slots; each answers with a slot's number, -1 for none."""
    free = " ".join(f"WHEN GET_LOCK(%s, 0) = 1 THEN {slot}" for slot in range(count))
    mine = " ".join(f"WHEN IS_USED_LOCK(%s) = CONNECTION_ID() THEN {slot}" for slot in range(count))
    return _SlotStatements(
        at_once=f"SELECT CASE {free} ELSE -1 END",
        if_no_line=f"SELECT IF(IS_FREE_LOCK(%s), CASE {free} ELSE -1 END, -1)",
        # A KILL QUERY may have hit the last one after it had taken a slot: hence "mine" first.
        first=f"SELECT CASE {mine} {free} WHEN GET_LOCK(%s, %s) = 1 THEN 0 ELSE -1 END",
    )


class Slots(Line):
    """The line in front of several slots.

    Who need not wait takes any free slot with one statement. Who must wait stands in line, as in
    ``Line``, for one more lock, the gate. The holder of the gate is the first in line: it waits for
    one of the slots, and who frees another one sees that somebody has the gate and wakes it, with
    KILL QUERY. So nobody polls, and the slots go to those who wait in the order in which they came.
    Somebody who does not wait (``acquire(0)``) may be faster than the first in line. When a holder
    dies without freeing its slot, or is another MySQL user who may not wake, the first in line
    sees it within a second at the latest.

    Args:
        names: The locks' names, one a slot.
        gate: The gate's name.
    """

    def __init__(self, names: Sequence[str], gate: str) -> None:
        self._names = tuple(names)
        self._gate = gate
        self._sql = _slot_statements(len(self._names))

    def take(self, session: Session, deadline: Deadline) -> Taken | None:
        """As in ``Line``."""
        # Each begins elsewhere, so that the first slot is not the one that all try first.
        start = random.randrange(len(self._names))  # noqa: S311 - no secret
        order = self._names[start:] + self._names[:start]
        sent = now()
        try:
            if deadline.is_over:
                slot = session.number(self._sql.at_once, *order)
            else:
                slot = session.number(self._sql.if_no_line, self._gate, *order)
        except _ENDED_BY_SERVER as error:
            raise _wait_ended(self._gate, error) from error
        if slot is not None and slot >= 0:
            return Taken(order[slot], sent)
        if deadline.is_over or _stand(session, self._gate, deadline) is None:
            return None
        taken = self._as_first(session, order, deadline)
        if taken is None:
            # Frees the gate. Somebody may just be about to wake this session.
            session.close()
        else:
            super().free(session, self._gate)
        return taken

    def _as_first(
        self, session: Session, order: tuple[str, ...], deadline: Deadline
    ) -> Taken | None:
        while True:
            seconds = deadline.slice(_LOOK)
            sent, slot = now(), None
            try:
                with session.waiting(seconds):
                    slot = session.number(self._sql.first, *order, *order, order[0], seconds)
            except Interrupted:
                pass  # woken: look again
            if slot is not None and slot >= 0:
                return Taken(order[slot], sent, reuse=False)
            if deadline.is_over:
                return None

    def free(self, session: Session, name: str) -> bool:
        """As in ``Line``; wakes the first in line."""
        while True:
            try:
                released, first = session.query(
                    "SELECT RELEASE_LOCK(%s), IS_USED_LOCK(%s)", (name, self._gate)
                )[0]
            except Interrupted:
                continue
            if not released and not super().free(session, name):
                return False
            if first is not None:
                _wake(session, first)
            return True


def _wake(session: Session, first: int) -> None:
    # Another user's session, or one that has just ended: the first in line looks by itself.
    with suppress(MissingPrivilege, NoSuchSession):
        session.execute("KILL QUERY %s", (first,))


def _stand(session: Session, name: str, deadline: Deadline) -> Taken | None:
    while True:
        seconds, sent = deadline.slice(_SLICE), now()
        try:
            got = get_lock(session, name, seconds)
        except _ENDED_BY_SERVER as error:
            raise _wait_ended(name, error) from error
        if got:
            return Taken(name, sent)
        if deadline.is_over:
            return None


def _wait_ended(name: str, error: DatabaseError) -> LockError:
    if isinstance(error, Interrupted):
        return LockError(
            f"Somebody ended the wait for the lock {name!r} with KILL QUERY. It is not held."
        )
    return LockError(f"The server ended the wait for the lock {name!r}: {error}")
