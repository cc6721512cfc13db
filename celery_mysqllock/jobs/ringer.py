"""Wakes idle consumers: finds the connection that holds a bell, and ends the statement there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery_mysqllock.mysql import used_by, wake

if TYPE_CHECKING:
    from collections.abc import Collection

    from celery_mysqllock.jobs.lock_names import LockNames
    from celery_mysqllock.mysql import Session

# How many queues one statement rings for; each has several bells.
_QUEUES = 100


class Ringer:
    """Rings the bells of a job table's idle consumers; ``bell`` says how they sleep.

    Args:
        session: An open session. Each method raises ``ConnectionLost`` when it has ended.
        names: The names of the table's locks.
    """

    def __init__(self, session: Session, names: LockNames) -> None:
        self._session = session
        self._names = names

    def ring_each(self, queues: Collection[str]) -> None:
        """Wake one idle consumer of each of the queues."""
        ordered, sleepers = sorted(queues), dict[int, None]()
        for start in range(0, len(ordered), _QUEUES):
            asked = [ringing(self._names, queue) for queue in ordered[start : start + _QUEUES]]
            expressions = ", ".join(expression for expression, _ in asked)
            bells = tuple(bell for _, bells in asked for bell in bells)
            (found,) = self._session.query(f"SELECT {expressions}", bells)
            sleepers |= {int(one): None for one in found if one is not None}
        for sleeper in sleepers:
            wake(self._session, sleeper)

    def ring_all(self, queue: str) -> None:
        """Wake every idle consumer of the queue: there may be work for all of them."""
        for bell in self._names.bells(queue):
            wake(self._session, used_by(self._session, bell))

    def ring_sweeper(self) -> None:
        """Wake the sweeper, which sleeps until the next scheduled job is due."""
        wake(self._session, used_by(self._session, self._names.sweeper))


def ringing(names: LockNames, queue: str) -> tuple[str, tuple[str, ...]]:
    """An SQL expression for the connection id of an idle consumer, and its parameters."""
    bells = names.bells(queue)
    return f"COALESCE({', '.join(['IS_USED_LOCK(%s)'] * len(bells))})", bells
