"""Sends the cases of ``tests.tasks.app`` to a worker and looks at what becomes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tests.waiting import eventually

if TYPE_CHECKING:
    from types import ModuleType

    from celery import Task
    from celery.result import AsyncResult

    from celery_mysqllock.locks import MemoryLock, MySQLLock

#: The pools that Celery has and that are tested.
POOLS = ("prefork", "solo", "threads", "gevent")
#: Seconds in which everything must have happened.
LONG = 60.0


class Cases:
    """Sends cases to a worker and looks at what becomes of them."""

    def __init__(self, application: ModuleType, pool: str) -> None:
        self.app = application.app
        self._module = application
        self.pool = pool
        self.key = uuid4().hex

    def task(self, name: str) -> Task:
        return self.app.tasks[name]

    def signature(self, name: str, *, key: str | None = None) -> Any:
        return self.task(name).s(key or self.key).set(queue=self.pool)

    def send(self, name: str, **options: Any) -> AsyncResult:
        return self.signature(name).apply_async(**options)

    def lock(self, name: str, *, key: str | None = None) -> MySQLLock | MemoryLock:
        lock: MySQLLock | MemoryLock = self.task(name).lock_for(key or self.key)
        return lock

    def is_free(self, name: str) -> bool:
        return not self.lock(name).locked()

    def notes(self, result: AsyncResult) -> list[str]:
        return [what for what, _ in self._module.notes(result.id)]

    def times(self, result: AsyncResult) -> list[float]:
        return [when for _, when in self._module.notes(result.id)]

    def noted(self, result: AsyncResult, what: str, count: int = 1) -> None:
        """Wait until the task has come so far."""
        eventually(lambda: self.notes(result).count(what) >= count, LONG, f"the note {what}")

    def let_go(self, result: AsyncResult) -> None:
        """Open the gate at which the task waits."""
        self._module.gate(result.id).touch()
