"""The contract of locks, wherever they are kept.

``Lock`` is what a user sees. It keeps the hold of each process, if it has one, and asks a server or
this process's memory through the five methods at its end; ``MySQLLock`` and ``MemoryLock`` are the
two kinds. A kind has its own ``Hold`` (``hold.py``), which ends by a release or by a loss.
"""

from __future__ import annotations

import logging
import math
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from celery_mysqllock.exceptions import (
    LockError,
    LockLost,
    LockNotOwned,
    LockTimeout,
    MySQLLockError,
)
from celery_mysqllock.locks.process import this_process
from celery_mysqllock.mysql import lock_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from celery_mysqllock.locks.hold import Hold
    from celery_mysqllock.locks.holder import Holder

logger = logging.getLogger(__name__)


class Lock(ABC):
    """A named lock that at most ``limit`` holders have at a time.

    An object holds its lock once: it is not re-entrant. Another object of the same name is another
    holder, in the same process too. The lock belongs to the process that took it: a forked child
    does not hold its parent's. A lock that is held stays held until it is released, lost, or the
    process ends, even when the object is not referred to any more.

    Attributes:
        name: The lock's full name, as the server knows it.
        names: The full names of its slots; that one name when there is one holder.
        note: What the holder does, such as a task's id; ``holder()`` shows it to others.
        waited: Seconds that the last ``acquire`` took.
    """

    def __init__(
        self,
        name: str,
        *,
        namespace: str,
        limit: int,
        note: str | None,
        on_lost: Callable[[Any], object] | None,
    ) -> None:
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise ValueError(f"limit={limit!r}: a lock has a whole number of holders, 1 or more.")
        self._set_names(namespace, name, limit)
        self.note = note
        self.waited = 0.0
        self._on_lost = on_lost
        self._holds: dict[object, Hold] = {}
        self._held_for = 0.0

    def _set_names(self, namespace: str, name: str, limit: int) -> None:
        self.name = lock_name(namespace, name)
        self.names = (
            (self.name,)
            if limit == 1
            else tuple(lock_name(namespace, name, str(slot)) for slot in range(limit))
        )

    def _on_loss(self) -> Callable[[], object] | None:
        """What a hold of this lock calls when it is lost."""
        return None if self._on_lost is None else partial(self._on_lost, self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}{' owned' if self.owned() else ''}>"

    # -- acquire and release ----------------------------------------------------------------------

    def acquire(self, wait: float | None = 0) -> bool:
        """Take the lock.

        When it raises, an error or an exception of a signal (Ctrl-C, a time limit), the lock is not
        held.

        Args:
            wait: Seconds to wait for it, None for no limit. Fractions are rounded up: MySQL waits
                in whole seconds.

        Returns:
            Whether this object holds the lock now.

        Raises:
            ValueError: ``wait`` is negative.
            LockError: This object holds it already, or a KILL QUERY has ended the wait.
            LockLost: This object had it and lost it; ``release`` it first.
            DatabaseError: The server cannot be asked.
        """
        seconds = _whole_seconds(wait)
        self._refuse_second()
        began = time.monotonic()
        kept: list[Hold] = []
        try:
            if not self._take(seconds, kept):
                return False
            self._keep(kept[0])
        except BaseException:
            for hold in kept:
                hold.drop()
                if self._holds.get(this_process()) is hold:
                    del self._holds[this_process()]
            raise
        finally:
            self.waited = time.monotonic() - began
        return True

    def _refuse_second(self) -> None:
        hold = self._holds.get(this_process())
        if hold is not None:
            hold.raise_if_lost()
            raise LockError(
                f"This object holds the lock {self.name!r} already; a lock is not re-entrant."
            )

    def _keep(self, hold: Hold) -> None:
        if self._holds.setdefault(this_process(), hold) is not hold:
            raise LockError(f"Two threads took the lock {self.name!r} with one object.")

    def release(self) -> None:
        """Release the lock.

        Raises:
            LockNotOwned: This object does not hold it.
            LockLost: It was lost meanwhile, so another holder may have had it at the same time.
        """
        hold = self._held()
        try:
            hold.release()
        except LockNotOwned:
            raise
        except BaseException:
            hold.drop()
            raise
        finally:
            self._held_for = time.monotonic() - hold.began
            self._holds.pop(this_process(), None)

    def __enter__(self) -> Self:
        return self._enter(0)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave(error)

    def waiting(self, wait: float | None) -> Waiting:
        """A ``with`` that waits for the lock: ``with lock.waiting(10): ...``.

        A plain ``with lock:`` does not wait. Both raise ``LockTimeout`` when the lock is not to be
        had. An exception from inside the block is not replaced by a ``LockLost`` at its end, which
        is logged instead.

        Args:
            wait: As for ``acquire``.
        """
        return Waiting(self, wait)

    def _enter(self, wait: float | None) -> Self:
        if not self.acquire(wait):
            raise LockTimeout(
                f"The lock {self.name!r} is held by {self._who()}; waited {self.waited:.1f} s."
            )
        return self

    def _leave(self, error: BaseException | None) -> None:
        try:
            self.release()
        except LockLost as lost:
            if error is None:
                raise
            with suppress(Exception):
                logger.warning("%s (after %s)", lost, type(error).__name__)

    def _who(self) -> str:
        try:
            return str(self.holder() or "a holder that has just released it")
        except MySQLLockError as error:
            return f"an unknown holder ({error})"

    # -- what is known ----------------------------------------------------------------------------

    def owned(self) -> bool:
        """Whether this object holds the lock, as far as is known without asking the server.

        False as soon as the server may have freed it: when it has not answered for
        ``session_timeout``.
        """
        hold = self._holds.get(this_process())
        return hold is not None and hold.is_sure()

    @property
    def held_for(self) -> float:
        """Seconds since the lock was taken; after its release, seconds that it was held."""
        hold = self._holds.get(this_process())
        return self._held_for if hold is None else time.monotonic() - hold.began

    def check(self) -> None:
        """Ask the server whether this object still holds the lock.

        The answer is true at the moment of asking. To tie a write to the lock, use ``fence``.

        Raises:
            LockNotOwned: This object does not hold it.
            LockLost: It was lost.
        """
        self._held().verify()

    def fence(self) -> tuple[str, dict[str, Any]]:
        """An SQL condition that is true while this hold of the lock lasts, and its parameters.

        Put it into the WHERE of a write: the server then changes the row while the lock is held,
        and changes no row (row count 0) once it is lost, whatever the writer believes. The write
        may use any connection to the same server. The parameters have the style ``%(name)s``::

            condition, parameters = lock.fence()
            sql = f"UPDATE account SET balance = 7 WHERE id = %(id)s AND {condition}"
            changed = cursor.execute(sql, {"id": 1, **parameters})

        Raises:
            LockNotOwned: This object does not hold it.
            LockLost: It was lost.
        """
        return self._held().fence()

    def _held(self) -> Hold:
        hold = self._holds.get(this_process())
        if hold is None:
            raise LockNotOwned(
                f"The lock {self.name!r} is not held by this object in this process."
            )
        return hold

    # -- where the lock is kept -------------------------------------------------------------------

    @abstractmethod
    def _take(self, wait: int | None, kept: list[Hold]) -> bool:
        """Take the lock and append the hold to ``kept``; leave nothing behind on an error.

        The hold is not returned: an exception of a signal may come between a return and the
        assignment, and the lock would be held without a reference to its hold.
        """

    @abstractmethod
    def locked(self) -> bool:
        """Whether the lock is held (one of its slots, when ``limit`` is above 1)."""

    @abstractmethod
    def holder(self) -> Holder | None:
        """The holder (the first of them, when ``limit`` is above 1), None when the lock is free."""

    @abstractmethod
    def reset(self) -> bool:
        """Free the lock by force, with all of its slots; each holder loses it and is told.

        Returns:
            Whether it was held.
        """


class Waiting:
    """A ``with`` of a lock that waits.

    No generator, in which an exception of a signal could come between the acquisition and the try.
    """

    def __init__(self, lock: Lock, wait: float | None) -> None:
        self._lock = lock
        self._wait = wait

    def __enter__(self) -> Lock:
        return self._lock._enter(self._wait)  # noqa: SLF001 - two halves of one thing

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lock._leave(error)  # noqa: SLF001 - as above


def _whole_seconds(wait: float | None) -> int | None:
    if wait is None:
        return None
    if not 0 <= wait < math.inf:
        raise ValueError(f"wait={wait!r}: it takes seconds, 0 or more, or None for no end.")
    return math.ceil(wait)
