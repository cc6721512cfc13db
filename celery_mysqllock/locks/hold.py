"""A lock in somebody's hands: held until it is given back or lost, whichever comes first."""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from celery_mysqllock.exceptions import LockLost, LockNotOwned
from celery_mysqllock.mysql.threads import start_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    Fence = tuple[str, dict[str, Any]]

logger = logging.getLogger(__name__)

# Seconds that a release waits at most for an on_lost that is running.
_TELLING = 5.0


class Hold(ABC):
    """One lock that is held, from GET_LOCK's yes to its end.

    Args:
        name: The lock's name, for the log.
        note: What the holder is doing.
        on_lost: Called once, in a thread of its own, when the hold is lost before it is given
            back; a callback that takes long or raises harms no other lock.

    Attributes:
        loss: Why the lock is lost, None while it is not.
        began: When it was taken, on the clock of ``time.monotonic``.
    """

    def __init__(
        self, name: str, *, note: str | None = None, on_lost: Callable[[], object] | None = None
    ) -> None:
        self.name = name
        self.note = note
        self.loss: str | None = None
        self.began = time.monotonic()
        self._on_lost = on_lost
        self._over = False
        self._mutex = threading.Lock()
        self._telling: threading.Thread | None = None

    @property
    def is_over(self) -> bool:
        """Whether the lock was lost or is being given back."""
        return self._over or self.loss is not None

    def lose(self, reason: str) -> bool:
        """Say that the lock is lost; nothing happens when the hold is over already.

        Returns:
            Whether this call was the one that ended the hold.
        """
        with self._mutex:
            if self.is_over:
                return False
            self.loss = reason
            if self._on_lost is not None:
                self._telling = start_thread(self._tell, "celery-mysqllock on_lost")
        # a log's handler may be slow, or broken
        with suppress(Exception):
            logger.warning("The lock %r is lost: %s", self.name, reason)
        return True

    def _tell(self) -> None:
        try:
            if self._on_lost is not None:
                self._on_lost()
        except Exception:
            logger.exception("on_lost of the lock %r failed", self.name)

    def end(self) -> None:
        """Begin to give the lock back. From the return on, ``on_lost`` is not called any more.

        Raises:
            LockLost: The lock was lost before.
            LockNotOwned: Another thread gives it back already.
        """
        with self._mutex:
            if self._over:
                raise LockNotOwned(f"The lock {self.name!r} is being released by another thread.")
            self._over = True
            telling = self._telling
        if telling is not None and telling is not threading.current_thread():
            telling.join(_TELLING)
        self.raise_if_lost()

    def raise_if_lost(self) -> None:
        """Do nothing while the lock is held.

        Raises:
            LockLost: The lock is lost.
        """
        if self.loss is not None:
            raise LockLost(
                f"The lock {self.name!r} is lost, so somebody else may hold it now: {self.loss}"
            )

    @abstractmethod
    def is_sure(self) -> bool:
        """Whether the lock is held as far as is known now."""

    @abstractmethod
    def verify(self) -> None:
        """Ask who holds the lock.

        Raises:
            LockLost: Not this hold.
        """

    @abstractmethod
    def give_back(self) -> None:
        """Free the lock.

        Raises:
            LockLost: It was not held any more.
        """

    @abstractmethod
    def drop(self) -> None:
        """Free the lock by force and without an error, whatever state it is in."""

    @abstractmethod
    def fence(self) -> Fence:
        """An SQL condition that is true while the lock is held, and its parameters.

        Raises:
            LockLost: It is not held any more.
        """
