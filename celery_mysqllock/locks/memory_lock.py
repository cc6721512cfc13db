"""The lock that is kept in this process's memory, for tests that need no server: MemoryLock."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from celery_mysqllock.locks.hold import Hold
from celery_mysqllock.locks.holder import Holder, running_process
from celery_mysqllock.locks.line import Deadline
from celery_mysqllock.locks.lock import Lock
from celery_mysqllock.locks.process import PerProcess

if TYPE_CHECKING:
    from collections.abc import Callable

_NAMESPACE = "memory"


class _Server:
    """Stands for the server: who holds which name, in one process."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.holds: dict[str, MemoryHold] = {}
        self.lines: dict[str, deque[object]] = {}
        self.numbers = itertools.count(1)


_server = PerProcess(_Server)


class MemoryHold(Hold):
    """A lock that is held in memory."""

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
        """As in ``Hold``; always true, for there is no server that could know."""
        self.raise_if_lost()
        return "1 = 1", {}

    def give_back(self) -> None:
        """As in ``Hold``."""
        self.end()
        self.free()

    def drop(self) -> None:
        """As in ``Hold``."""
        self._over = True
        self.free()

    def free(self) -> None:
        """Let the next one have the lock."""
        with self._server.changed:
            if self._server.holds.get(self.name) is self:
                del self._server.holds[self.name]
                self._server.changed.notify_all()


class MemoryLock(Lock):
    """A lock that keeps the contract of ``MySQLLock`` among the threads of one process.

    It never loses itself, except by ``reset``. ``fence`` is a condition that is always true. A
    forked child has locks of its own.

    Args:
        name: The lock's name within the namespace.
        url: Taken and ignored, so that both kinds are made alike.
        namespace: First part of the full name, None for ``memory``.
        limit: As for ``MySQLLock``.
        session_timeout: Taken and ignored.
        note: As for ``MySQLLock``.
        on_lost: As for ``MySQLLock``.
        allow_multi_primary: Taken and ignored.

    Raises:
        ValueError: ``limit`` is below 1.
        LockError: The name is empty.
    """

    def __init__(  # noqa: PLR0913 - those of MySQLLock
        self,
        name: str,
        *,
        url: object = None,  # noqa: ARG002 - as documented
        namespace: str | None = None,
        limit: int = 1,
        session_timeout: int = 30,  # noqa: ARG002 - as documented
        note: str | None = None,
        on_lost: Callable[[MemoryLock], object] | None = None,
        allow_multi_primary: bool = False,  # noqa: ARG002 - as documented
    ) -> None:
        super().__init__(
            name, namespace=namespace or _NAMESPACE, limit=limit, note=note, on_lost=on_lost
        )

    def _take(self, wait: int | None, kept: list[Hold]) -> bool:
        server, deadline, me = _server(), Deadline(wait), object()
        with server.changed:
            if deadline.is_over:
                return self.name not in server.lines and self._take_free(server, kept)
            line = server.lines.setdefault(self.name, deque())
            line.append(me)
            try:
                return server.changed.wait_for(
                    lambda: line[0] is me and self._take_free(server, kept), deadline.left()
                )
            finally:
                line.remove(me)
                if not line:
                    del server.lines[self.name]
                server.changed.notify_all()

    def _take_free(self, server: _Server, kept: list[Hold]) -> bool:
        for name in self.names:
            if name not in server.holds:
                tell = None if self._on_lost is None else self._tell_lost
                hold = MemoryHold(name, note=self.note, on_lost=tell)
                kept.append(hold)
                server.holds[name] = hold
                return True
        return False

    def _tell_lost(self) -> None:
        if self._on_lost is not None:
            self._on_lost(self)

    def locked(self) -> bool:
        """As in ``Lock``."""
        return bool(self._holders())

    def holder(self) -> Holder | None:
        """As in ``Lock``; the connection id is a number that is never used twice."""
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
            hold.lose("somebody has reset it")
            hold.free()
        return bool(holders)

    def _holders(self) -> list[MemoryHold]:
        holds = _server().holds
        return [holds[name] for name in self.names if name in holds]
