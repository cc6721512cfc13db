"""One call of a task under its lock: the code path shared by every way of decorating a task."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple

from celery.utils.log import get_logger
from celery.utils.threads import get_ident

from celery_mysqllock.app import lock_settings
from celery_mysqllock.exceptions import LockLost, LockNotOwned, MySQLLockError
from celery_mysqllock.signals import lock_acquired, lock_released
from celery_mysqllock.tasks.conflict import Conflict, handle_conflict
from celery_mysqllock.tasks.informing import only_informing
from celery_mysqllock.tasks.loss import LossHandler

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from celery import Task

    from celery_mysqllock.locks import Holder, MemoryLock, MySQLLock
    from celery_mysqllock.settings import LockSettings
    from celery_mysqllock.tasks.spec import LockSpec

logger = get_logger(__name__)

#: Seconds that a task waits at most for an earlier attempt of itself, or for the job that was ahead
#: of it, when that has ended or was killed and is about to release the lock.
GRACE = 5.0


class _Active(NamedTuple):
    """What a running call is known by.

    Attributes:
        thread: The thread or greenlet that runs it.
        settings: Where its lock is kept.
        lock: The lock's name, without the namespace.
    """

    thread: Any
    settings: LockSettings
    lock: str


_active: dict[_Active, LockedCall] = {}


def run_locked(
    spec: LockSpec,
    task: Task,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    body: Callable[[], Any],
) -> Any:  # noqa: ANN401 - whatever the task returns
    """Run the body of a call of the task while holding the task's lock.

    A call within a body that holds this very lock, in the same thread or greenlet, is a part of
    that body: it runs at once, and the lock stays with the outer call. This is so for direct and
    for eager calls; ``limit`` counts the outer call only. With ``limit=None`` there is no lock.

    Args:
        spec: The task's lock.
        task: The task.
        args: The arguments of the call, without ``self``.
        kwargs: The keyword arguments of the call.
        body: Runs the task's own code with these arguments.

    Returns:
        What the body returns, or what ``on_conflict`` says.

    Raises:
        OtherInstanceError: Another instance holds the lock; with ``on_conflict="raise"``.
        LockLost: The lock was lost before the body ended; unless ``on_lost="log"``.
        DatabaseError: The server cannot be asked; the body has not run.
    """
    if spec.options.limit is None:
        return body()
    name = spec.lock_name(task, args, kwargs)
    active = _Active(get_ident(), lock_settings(task.app), name)
    outer = _active.get(active)
    if outer is not None and outer.lock.owned():
        return body()
    return LockedCall(spec, task, name).run(active, body)


def current_lock() -> MySQLLock | MemoryLock:
    """The lock that the running task holds, for its ``check()`` and ``fence()``.

    In a call within a call it is the lock of the innermost one that has a lock of its own.

    Raises:
        LockNotOwned: No task that has a lock is running in this thread or greenlet.
    """
    me = get_ident()
    for active, call in reversed(list(_active.items())):
        if active.thread == me:
            lock: MySQLLock | MemoryLock = call.lock
            return lock
    raise LockNotOwned(
        "No lock is held here: current_lock() is for the body of a task that has "
        "@single_instance, in the thread that runs it."
    )


class LockedCall:
    """One call of a task, from asking for its lock to giving it back.

    Attributes:
        lock: The lock of this call.
    """

    def __init__(self, spec: LockSpec, task: Task, name: str) -> None:
        self._options = spec.options
        self._task = task
        self._request = task.request
        self._loss = LossHandler(task, self._request.id, spec.options.on_lost)
        self.lock: MySQLLock | MemoryLock = spec.new_lock(
            task, name, note=self._request.id, on_lost=self._loss.lost
        )

    def run(self, active: _Active, body: Callable[[], Any]) -> Any:  # noqa: ANN401
        """Run the body under the lock; errors as in ``run_locked``."""
        # A time limit, a shutdown or a loss may raise between any two of these lines. So the lock
        # is asked for inside the try, and giving it back has a second chance outside of it.
        acquired = ok = over = False
        try:
            try:
                acquired = self._acquire()
                if not acquired:
                    return handle_conflict(self._conflict())
                self._tell_acquired()
                _active[active] = self
                self._loss.begin(self.lock)
                result = body()
                ok = True
                return result
            finally:
                self._end(active)
                if acquired:
                    self._release(ok=ok)
                    over = True
        finally:
            if not over:
                self._end(active)
                with contextlib.suppress(LockNotOwned, LockLost):
                    self.lock.release()

    def _end(self, active: _Active) -> None:
        self._loss.end()
        _active.pop(active, None)

    def _conflict(self) -> Conflict:
        return Conflict(
            self._task, self._request, self._options, self.lock, self._holder(), self._is_direct()
        )

    def _is_direct(self) -> bool:
        """Whether the call has no message of its own that could be sent again."""
        me = get_ident()
        within = any(
            active.thread == me and call._task is self._task  # noqa: SLF001 - of its own class
            for active, call in list(_active.items())
        )
        return bool(self._request.called_directly or self._request.is_eager or within)

    def _acquire(self) -> bool:
        wait = self._options.wait
        if self.lock.acquire(wait=wait):
            return True
        if wait is None or wait >= GRACE or not self._may_have_ended(self._holder()):
            return False
        return bool(self.lock.acquire(wait=GRACE))

    def _holder(self) -> Holder | None:
        """The lock's holder, None also when the server does not tell."""
        with contextlib.suppress(MySQLLockError):
            return self.lock.holder()
        return None

    def _may_have_ended(self, holder: Holder | None) -> bool:
        """Whether the holder may be an earlier attempt, or job, that is about to release it."""
        if self._request.is_eager:
            return False  # then the earlier attempt has ended
        if self._options.on_conflict == "queue" and not self._is_direct():
            # the job ahead has ended, or its worker is dead
            return True
        if self._options.limit == 1 and holder is not None and holder.since is not None:
            # The holder has told what it is; of a long note it tells the beginning.
            return holder.note is not None and str(self._request.id).startswith(holder.note)
        delivered = self._request.delivery_info or {}
        return bool(self._request.retries or delivered.get("redelivered"))

    def _tell_acquired(self) -> None:
        name, waited = self.lock.name, self.lock.waited
        with only_informing():
            logger.debug(
                "Task %s[%s] has the lock %r after %.3fs",
                *(self._task.name, self._request.id, name, waited or 0.0),
            )
        with only_informing():
            lock_acquired.send(
                sender=self._task, name=name, task_id=self._request.id, waited=waited
            )

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
                *(self._task.name, self._request.id, name, held or 0.0),
            )
        with only_informing():
            lock_released.send(
                sender=self._task,
                name=name,
                task_id=self._request.id,
                waited=self.lock.waited,
                held=held,
            )
