"""What a task does when another instance holds its lock: raise, skip, run later, ask a callable."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from celery.exceptions import Reject, Retry
from celery.utils.log import get_logger

from celery_mysqllock.exceptions import MySQLLockError, OtherInstanceError
from celery_mysqllock.signals import lock_conflict
from celery_mysqllock.tasks.informing import only_informing

if TYPE_CHECKING:
    from celery import Task
    from celery.app.task import Context

    from celery_mysqllock.locks import Holder, MemoryLock, MySQLLock
    from celery_mysqllock.tasks.options import LockOptions

logger = get_logger(__name__)

# A countdown is made shorter or longer by up to this part, so that many tasks do not meet again.
_JITTER = 0.25


@dataclass(frozen=True)
class Conflict:
    """A call of a task that did not get its lock.

    Attributes:
        task: The task.
        request: Celery's request of the call.
        options: The options of the lock.
        lock: The lock.
        holder: Its holder, None when the server cannot tell.
        is_direct: Whether the call has no message of its own that could be sent again.
    """

    task: Task
    request: Context
    options: LockOptions
    lock: MySQLLock | MemoryLock
    holder: Holder | None
    is_direct: bool


def handle_conflict(conflict: Conflict) -> Any:  # noqa: ANN401 - the callable's
    """Do what the task's ``on_conflict`` says.

    Returns:
        ``skip_result``, or what the callable returns.

    Raises:
        OtherInstanceError: With ``raise``. With ``retry`` and ``queue`` too when the call has no
            message, because the task was called directly or runs eagerly.
        Retry: The message was sent again.
        Reject: The job is put aside for a while, and keeps its place in the order of its key.
    """
    task, request, options = conflict.task, conflict.request, conflict.options
    name, holder = conflict.lock.name, conflict.holder
    with only_informing():
        lock_conflict.send(
            sender=task, name=name, task_id=request.id, waited=conflict.lock.waited, holder=holder
        )
    with only_informing():
        logger.info(
            "Task %s[%s] did not get the lock %r, on_conflict=%s: it is held by %s",
            *(task.name, request.id, name, options.on_conflict),
            holder or "another instance",
        )
    if options.on_conflict == "skip":
        return options.skip_result
    if callable(options.on_conflict):
        return options.on_conflict(task, holder)
    error = OtherInstanceError(
        f"Another instance of task {task.name} is running: the lock {name!r} is held by "
        f"{holder or 'it'}.",
        name=name,
        holder=holder,
    )
    if options.on_conflict == "retry" and not conflict.is_direct:
        raise _send_again(task, request, options.retry_countdown, error)
    if options.on_conflict == "queue" and not conflict.is_direct:
        request.called_directly = True  # see _keep_from_autoretry
        # the mysql:// transport takes seconds as well as True
        raise Reject(str(error), requeue=_spread(options.retry_countdown))
    _keep_from_autoretry(task, request)
    raise error


def _send_again(task: Task, request: Context, countdown: float, error: OtherInstanceError) -> Retry:
    """Send the same message again: same id, headers, chord, callbacks and count of retries.

    ``Task.retry`` would count it against the task's ``max_retries``.
    """
    countdown = _spread(countdown)
    again = task.signature_from_request(request, countdown=countdown, retries=request.retries)
    again.apply_async()
    return Retry(exc=error, when=countdown, sig=again)


def _spread(countdown: float) -> float:
    return round(countdown * random.uniform(1 - _JITTER, 1 + _JITTER), 3)  # noqa: S311 - no secret


def _keep_from_autoretry(task: Task, request: Context) -> None:
    """Keep ``autoretry_for=(Exception,)`` from sending the task again.

    Celery's autoretry calls ``Task.retry``, which re-raises the error when the request says that it
    was called directly. From here on Celery uses the flag for nothing else. A task that names
    ``OtherInstanceError`` or ``LockError`` in ``autoretry_for`` gets its retry.
    """
    for kind in getattr(task, "autoretry_for", ()):
        if issubclass(kind, MySQLLockError) and issubclass(OtherInstanceError, kind):
            return
    request.called_directly = True
