"""One call of a task under its lock: the code in which every way to decorate a task ends."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from celery.utils.log import get_logger
from celery.utils.threads import get_ident

from celery_mysqllock.app import lock_settings
from celery_mysqllock.exceptions import LockLost, LockNotOwned, MySQLLockError
from celery_mysqllock.tasks.conflict import answer_conflict
from celery_mysqllock.tasks.informing import only_informing
from celery_mysqllock.tasks.loss import Loss
from celery_mysqllock.tasks.signals import lock_acquired, lock_released

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from celery import Task

    from celery_mysqllock.locks import Holder, MemoryLock, MySQLLock
    from celery_mysqllock.settings import LockSettings
    from celery_mysqllock.tasks.rule import LockRule

logger = get_logger(__name__)

#: Seconds that a task waits at most for an earlier attempt of itself, or for the job that was ahead
#: of it in its key's line, which has ended or was killed, and is about to let the lock go.
GRACE = 5.0

# The calls that run now, each under the thread or greenlet that runs it and the lock that it holds.
_active: dict[tuple[Any, LockSettings, str], LockedCall] = {}


def run_locked(
    rule: LockRule,
    task: Task,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    body: Callable[[], Any],
) -> Any:  # noqa: ANN401 - whatever the task returns
    """Run the body of a call of the task while holding the task's lock.

    A call within a body that holds this very lock, in the same thread or greenlet, is a part of
    that body: it runs at once, and the lock stays with the outer call. This goes for direct calls
    and for eager ones; ``limit`` counts the outer call only. With ``limit=None`` there is no lock.

    Args:
        rule: The task's rule.
        task: The task.
        args: The arguments of the call, without ``self``.
        kwargs: The keyword arguments of the call.
        body: Runs the task's own code with these arguments.

    Returns:
        What the body returns, or what ``on_conflict`` says.

    Raises:
        OtherInstanceError: Somebody else holds the lock; with ``on_conflict="raise"``.
        LockLost: The lock was lost before the body ended; unless ``on_lost="log"``.
        DatabaseError: The server cannot be asked; the body has not run.
    """
    if rule.options.limit is None:
        return body()
    name = rule.lock_name(task, args, kwargs)
    place = (get_ident(), lock_settings(task.app), name)
    outer = _active.get(place)
    if outer is not None and outer.lock.owned():
        return body()
    return LockedCall(rule, task, name).run(place, body)


def current_lock() -> MySQLLock | MemoryLock:
    """The lock that the running task holds, for its ``check()`` and ``fence()``.

    With calls within calls it is the lock of the innermost that has one of its own.

    Raises:
        LockNotOwned: No task that has a lock is running in this thread or greenlet.
    """
    me = get_ident()
    for place, call in reversed(list(_active.items())):
        if place[0] == me:
            lock: MySQLLock | MemoryLock = call.lock
            return lock
    raise LockNotOwned(
        "No lock is held here: current_lock() is for the body of a task that has "
        "@single_instance, in the thread that runs it."
    )


class LockedCall:
    """One call of a task, from asking for its lock to giving it back.

    Attributes:
        task: The task.
        request: What Celery knows of this call.
        rule: The task's rule.
        lock: The lock of this call.
    """

    def __init__(self, rule: LockRule, task: Task, name: str) -> None:
        self.rule = rule
        self.task = task
        self.request = task.request
        self._loss = Loss(task, self.request.id, rule.options.on_lost)
        self.lock: MySQLLock | MemoryLock = rule.new_lock(
            task, name, note=self.request.id, on_lost=self._loss.lost
        )

    def run(self, place: tuple[Any, LockSettings, str], body: Callable[[], Any]) -> Any:  # noqa: ANN401
        """Run the body under the lock; errors as in ``run_locked``."""
        # A time limit, a shutdown or a loss may raise between any two of these lines. So the lock
        # is asked for inside the try, and giving it back has a second chance outside of it.
        acquired = ok = over = False
        try:
            try:
                acquired = self._acquire()
                if not acquired:
                    return answer_conflict(self, self._holder())
                self._tell_acquired()
                _active[place] = self
                self._loss.begin(self.lock)
                result = body()
                ok = True
                return result
            finally:
                self._end(place)
                if acquired:
                    self._release(ok=ok)
                    over = True
        finally:
            if not over:
                self._end(place)
                with contextlib.suppress(LockNotOwned, LockLost):
                    self.lock.release()

    def _end(self, place: tuple[Any, LockSettings, str]) -> None:
        self._loss.end()
        _active.pop(place, None)

    @property
    def is_direct(self) -> bool:
        """Whether no message of its own stands behind this call, so that none can be sent again."""
        me = get_ident()
        within = any(
            place[0] == me and call.task is self.task for place, call in list(_active.items())
        )
        return bool(self.request.called_directly or self.request.is_eager or within)

    def _acquire(self) -> bool:
        wait = self.rule.options.wait
        if self.lock.acquire(wait=wait):
            return True
        if wait is None or wait >= GRACE or not self._may_have_ended(self._holder()):
            return False
        return bool(self.lock.acquire(wait=GRACE))

    def _holder(self) -> Holder | None:
        """Who has the lock, None also when the server does not tell."""
        with contextlib.suppress(MySQLLockError):
            return self.lock.holder()
        return None

    def _may_have_ended(self, holder: Holder | None) -> bool:
        """Whether the holder may be an earlier attempt, or job, that is about to let go."""
        if self.request.is_eager:
            return False  # then the earlier attempt has ended
        if self.rule.options.on_conflict == "queue" and not self.is_direct:
            # who was ahead in the line has ended, or its worker is dead
            return True
        if self.rule.options.limit == 1 and holder is not None and holder.since is not None:
            # The server knows all about it; of a long note it keeps the beginning.
            return holder.note is not None and str(self.request.id).startswith(holder.note)
        delivered = self.request.delivery_info or {}
        return bool(self.request.retries or delivered.get("redelivered"))

    def _tell_acquired(self) -> None:
        name, waited = self.lock.name, self.lock.waited
        with only_informing():
            logger.debug(
                "Task %s[%s] has the lock %r after %.3fs",
                *(self.task.name, self.request.id, name, waited or 0.0),
            )
        with only_informing():
            lock_acquired.send(sender=self.task, name=name, task_id=self.request.id, waited=waited)

    def _release(self, *, ok: bool) -> None:
        name = self.lock.name
        try:
            self.lock.release()
        except LockLost as error:
            self._loss.found_at_the_end(self.lock, error, ok=ok)
            return
        held = self.lock.held_for
        with only_informing():
            logger.debug(
                "Task %s[%s] has released the lock %r after %.3fs",
                *(self.task.name, self.request.id, name, held or 0.0),
            )
        with only_informing():
            lock_released.send(
                sender=self.task,
                name=name,
                task_id=self.request.id,
                waited=self.lock.waited,
                held=held,
            )
