"""An idle consumer that never looks by itself, to see whether a bell is rung for it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from celery_mysqllock.jobs import Bell, LockNames, Wanted, Work
from celery_mysqllock.mysql import Session
from tests.waiting import eventually

if TYPE_CHECKING:
    from celery_mysqllock.mysql import Address


class Listener:
    """Sleeps for the queue ``celery``, for minutes if nobody rings.

    Args:
        address: The broker's database.
    """

    def __init__(self, address: Address) -> None:
        self._session = Session(address).open()
        self._rung = threading.Event()
        self._asleep = Session(address)
        names = LockNames.of(self._session, "jobs")
        self._bell = Bell(
            self._asleep,
            names,
            Work(self._session).is_any,
            on_ring=lambda _: self._rung.set(),
            on_error=lambda _: None,
        )
        self._bell.start()
        self._bell.listen(Wanted(frozenset({"celery"})), self._session)

    def fall_asleep(self) -> None:
        """Forget all jobs and rings, and wait until the next ring would be heard."""
        self._session.execute("DELETE FROM jobs")
        eventually(self._is_asleep)
        self._rung.clear()

    def _is_asleep(self) -> bool:
        connection_id = (self._asleep.connection_id,)
        state = "SELECT state FROM information_schema.processlist WHERE id = %s"
        return bool(self._session.value(state, connection_id) == "User sleep")

    @property
    def was_rung(self) -> bool:
        """Whether somebody has rung since it fell asleep."""
        return self._rung.is_set()

    def hear(self) -> None:
        """Wait until somebody rings.

        Raises:
            AssertionError: Nobody does.
        """
        assert self._rung.wait(30), "Nobody has rung."

    def close(self) -> None:
        """Listen no more."""
        self._bell.stop(self._session)
        self._session.close()
