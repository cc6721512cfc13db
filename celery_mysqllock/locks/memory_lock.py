"""MemoryLock, a lock in the memory of this process, for tests without a server."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from celery_mysqllock.locks.clock import Deadline
from celery_mysqllock.locks.hold import Hold
from celery_mysqllock.locks.holder import Holder, running_process
from celery_mysqllock.locks.lock import Lock
from celery_mysqllock.locks.process import PerProcess

if TYPE_CHECKING:
    from collections.abc import Callable

_NAMESPACE = "memory"


class _Server:
    """Takes the place of the server: which names are held and waited for in one process."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.holds: dict[str, MemoryHold] = {}
        self.queues: dict[str, deque[object]] = {}
        self.numbers = itertools.count(1)


_server = PerProcess(_Server)


class MemoryHold(Hold):
    """A hold of a lock in memory."""

    def __init__(
        self, name: str, *, note: str | None, on_lost: Callable[[], object] | None
    ) -> None:
        super().__init__(name, note=note, on_lost=on_lost)
        self._server = _server()
        self.number = next(self._server.numbers)
        self.since = datetime.now(UTC)

    def is_sure(self) -> bool:
        """As in ``Hold``."""
        return not self.is_over

    def verify(self) -> None:
        """As in ``Hold``."""
        self.raise_if_lost()

    def fence(self) -> tuple[str, dict[str, Any]]:
        """As in ``Hold``; always true, as no server could know better."""
        self.raise_if_lost()
        return "1 = 1", {}

    def release(self) -> None:
        """As in ``Hold``."""
        self.end()
        self.free()

    def drop(self) -> None:
        """As in ``Hold``."""
        self._over = True
        self.free()

    def free(self) -> None:
        """Let the next holder have the lock."""
        with self._server.changed:
            if self._server.holds.get(self.name) is self:
                del self._server.holds[self.name]
                self._server.changed.notify_all()


class MemoryLock(Lock):
    """A lock that behaves like a ``MySQLLock``, among the threads of one process.

    It is lost by ``reset`` only. ``fence`` is a condition that is always true. A forked child has
    locks of its own.

    Args:
        name: The lock's name within the namespace.
        namespace: First part of the full name, None for ``memory``.
        limit: As for ``MySQLLock``.
        note: As for ``MySQLLock``.
        on_lost: As for ``MySQLLock``.

    Raises:
        ValueError: ``limit`` is below 1.
        LockError: The name is empty.
    """

    def __init__(
        self,
        name: str,
        *,
        namespace: str | None = None,
        limit: int = 1,
        note: str | None = None,
        on_lost: Callable[[MemoryLock], object] | None = None,
    ) -> None:
        super().__init__(
            name, namespace=namespace or _NAMESPACE, limit=limit, note=note, on_lost=on_lost
        )

    def _take(self, wait: int | None, kept: list[Hold]) -> bool:
        server, deadline, me = _server(), Deadline(wait), object()
        with server.changed:
            if deadline.is_over:
                return self.name not in server.queues and self._take_free(server, kept)
            queue = server.queues.setdefault(self.name, deque())
            queue.append(me)
            try:
                return server.changed.wait_for(
                    lambda: queue[0] is me and self._take_free(server, kept), deadline.left()
                )
            finally:
                queue.remove(me)
                if not queue:
                    del server.queues[self.name]
                server.changed.notify_all()

    def _take_free(self, server: _Server, kept: list[Hold]) -> bool:
        for name in self.names:
            if name not in server.holds:
                hold = MemoryHold(name, note=self.note, on_lost=self._on_loss())
                kept.append(hold)
                server.holds[name] = hold
                return True
        return False

    def locked(self) -> bool:
        """As in ``Lock``."""
        return bool(self._holders())

    def holder(self) -> Holder | None:
        """As in ``Lock``; the connection id is a number that is used once."""
        for hold in self._holders():
            return Holder(
                connection_id=hold.number,
                name=hold.name,
                process=running_process(),
                note=hold.note,
                since=hold.since,
            )
        return None

    def reset(self) -> bool:
        """As in ``Lock``."""
        holders = self._holders()
        for hold in holders:
            hold.lose("it was reset")
            hold.free()
        return bool(holders)

    def _holders(self) -> list[MemoryHold]:
        holds = _server().holds
        return [holds[name] for name in self.names if name in holds]
