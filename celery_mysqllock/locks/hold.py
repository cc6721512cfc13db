"""One hold of a lock, from its acquisition until it is released or lost."""

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

# Seconds that a release waits at most for a running on_lost.
_TELLING = 5.0


class Hold(ABC):
    """One hold of a lock: what it shares wherever the lock is kept, and what it must do there.

    It ends once, by a loss or by a release, whichever comes first. ``lock.py`` says how a lock uses
    it.

    Args:
        name: The lock's name.
        note: What the holder does.
        on_lost: Called once, in a thread of its own, when the hold is lost before it is released;
            a callback that takes long or raises affects no other lock.

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
        """Whether the lock was lost or is being released."""
        return self._over or self.loss is not None

    def lose(self, reason: str) -> bool:
        """End the hold by a loss; do nothing when it is over already.

        Returns:
            Whether this call was the one that ended the hold.
        """
        with self._mutex:
            if self.is_over:
                return False
            self.loss = reason
            if self._on_lost is not None:
                self._telling = start_thread(self._tell, "celery-mysqllock on_lost")
        # after on_lost was called, as a log handler may be slow, or broken
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
        """End the hold by a release. After this has returned, ``on_lost`` is not called any more.

        Raises:
            LockLost: The lock was lost before.
            LockNotOwned: Another thread is releasing it already.
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
                f"The lock {self.name!r} is lost, so another holder may have it now: {self.loss}"
            )

    @abstractmethod
    def is_sure(self) -> bool:
        """Whether the lock is held, as far as is known now without asking."""

    @abstractmethod
    def verify(self) -> None:
        """Ask whether the lock is held.

        Raises:
            LockLost: It is not.
        """

    @abstractmethod
    def release(self) -> None:
        """Free the lock.

        Raises:
            LockLost: It was not held any more.
        """

    @abstractmethod
    def drop(self) -> None:
        """Free the lock without asking or waiting and without an error, in whatever state it is."""

    @abstractmethod
    def fence(self) -> Fence:
        """An SQL condition that is true while the lock is held, and its parameters.

        Raises:
            LockLost: It is not held any more.
        """
