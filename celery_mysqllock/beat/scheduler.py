"""Celery's scheduler behind a named lock: the beat that holds it sends, the others wait in line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery.beat import PersistentScheduler
from celery.utils.log import get_logger

from celery_mysqllock.locks import new_lock
from celery_mysqllock.tasks.configuration import lock_settings

if TYPE_CHECKING:
    from celery_mysqllock.locks import MemoryLock, MySQLLock

logger = get_logger(__name__)

# Seconds that a standby waits in the server's line before it looks whether it should stop. The
# server hands the lock over at once; this is no polling interval.
_IN_LINE = 5


class Scheduler(PersistentScheduler):
    """``celery -A app beat -S mysqllock``, on as many hosts as you like.

    The beat that holds the named lock ``<namespace>:beat`` is the active one. When it dies, the
    server frees the lock and the next in line goes on within milliseconds. It counts its
    intervals from then on: what the dead one has sent is not sent again, and a tick that was due
    in the moment between the two is left out.

    Raises:
        SettingsError: The app names no server for its locks; see ``mysqllock_url``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Celery's
        self._lock: MySQLLock | MemoryLock | None = None
        self._is_standby = False
        super().__init__(*args, **kwargs)

    def tick(self, *args: Any, **kwargs: Any) -> float:  # noqa: ANN401 - Celery's
        """Send what is due if this beat is the active one; seconds until the next tick."""
        if not self._is_active():
            return 0.0
        seconds: float = super().tick(*args, **kwargs)
        return seconds

    def close(self) -> None:
        """Hand over to the next in line and store the schedule."""
        if self._lock is not None and self._lock.owned():
            self._lock.release()
        super().close()

    def _is_active(self) -> bool:
        if self._lock is not None and self._lock.owned():
            return True
        if self._lock is not None:
            logger.warning("This beat has lost its lock.")
            self._lock, self._is_standby = None, True
        return self._take_turn()

    def _take_turn(self) -> bool:
        settings = lock_settings(self.app)
        lock = new_lock(
            "beat",
            url=settings.url or "",
            namespace=settings.namespace,
            session_timeout=settings.session_timeout,
            note="beat",
        )
        if not lock.acquire(_IN_LINE if self._is_standby else 0):
            if not self._is_standby:
                logger.info("Another beat is active; this one stands by.")
            self._is_standby = True
            return False
        if self._is_standby:
            self._count_from_now()
        self._lock, self._is_standby = lock, False
        logger.info("This beat is the active one.")
        return True

    def _count_from_now(self) -> None:
        for entry in self.schedule.values():
            entry.last_run_at = entry.default_now()
        self._heap = None  # Celery's own; None has it made anew
