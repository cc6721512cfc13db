"""What happens when a lock is lost while its task runs: raise, log, or end the process."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

from celery.utils.log import get_logger

from celery_mysqllock.exceptions import LockLost
from celery_mysqllock.signals import lock_lost
from celery_mysqllock.tasks.informing import only_informing
from celery_mysqllock.tasks.interrupt import interrupt_here

if TYPE_CHECKING:
    from celery import Task

    from celery_mysqllock.locks import MemoryLock, MySQLLock

logger = get_logger(__name__)

_CONSEQUENCE = {
    "raise": "LockLost is raised in the task",
    "log": "the task goes on without it",
    "terminate": "the process ends now",
}


class LossHandler:
    """Handles the loss of a lock while its task's body runs: once, and never after its end.

    Args:
        task: The task that runs.
        task_id: Its id, None when it was called directly.
        on_lost: ``raise``, ``log`` or ``terminate``.
    """

    def __init__(self, task: Task, task_id: str | None, on_lost: str) -> None:
        self._task = task
        self._task_id = task_id
        self._on_lost = on_lost
        self._interrupt = interrupt_here() if on_lost == "raise" else None
        self._mutex = threading.Lock()
        self._running = False
        self._lost = False

    def begin(self, lock: MySQLLock | MemoryLock) -> None:
        """The body begins: from now on a loss has consequences.

        Raises:
            LockLost: The lock is lost already, so the body must not begin.
        """
        if self._interrupt is not None:
            self._interrupt.arm()
        self._running = True
        if self._lost:
            raise self.error(lock)

    def end(self) -> None:
        """The body has ended: from now on nothing is raised or killed. Safe to call again."""
        if self._interrupt is not None:
            self._interrupt.disarm()
        self._running = False

    def lost(self, lock: MySQLLock | MemoryLock) -> None:
        """Handle the loss; called by the thread that keeps the lock alive, or at the release."""
        with self._mutex:
            if self._lost:
                return
            self._lost, running = True, self._running
        if running and self._interrupt is not None:
            self._interrupt.fire(self.error(lock))
        try:
            self._tell(lock, running=running)
        finally:
            if self._on_lost == "terminate" and self._running:
                # Nothing in the process can catch it, and Celery reports WorkerLostError. The body
                # may end just now, but its release waits for the thread that runs this.
                os.kill(os.getpid(), signal.SIGKILL)

    def _tell(self, lock: MySQLLock | MemoryLock, *, running: bool) -> None:
        with only_informing():
            logger.error(
                "Task %s[%s] has lost the lock %r after %.3fs: %s",
                *(self._task.name, self._task_id, lock.name, lock.held_for or 0.0),
                _CONSEQUENCE[self._on_lost] if running else "its body has just ended",
            )
        with only_informing():
            lock_lost.send(
                sender=self._task,
                name=lock.name,
                task_id=self._task_id,
                waited=lock.waited,
                held=lock.held_for,
            )

    def found_at_the_end(self, lock: MySQLLock | MemoryLock, error: LockLost, *, ok: bool) -> None:
        """The release found that the lock was lost before the body ended.

        Args:
            lock: The lock.
            error: What the release raised.
            ok: Whether the body returned. If not, its own error is raised instead.

        Raises:
            LockLost: The body did not have the lock to its end; unless ``on_lost="log"``.
        """
        self.lost(lock)
        if ok and self._on_lost != "log":
            raise self.error(lock) from error

    def error(self, lock: MySQLLock | MemoryLock) -> LockLost:
        """The error for the task."""
        return LockLost(
            f"Task {self._task.name}[{self._task_id}] has lost the lock {lock.name!r} while it "
            "ran: the session that held it has ended, so another instance may be running."
        )
