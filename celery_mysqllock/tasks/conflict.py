"""What a task does when another instance holds its lock: raise, skip, run later, ask a callable."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from celery.exceptions import Reject, Retry
from celery.utils.log import get_logger

from celery_mysqllock.exceptions import MySQLLockError, OtherInstanceError
from celery_mysqllock.tasks.informing import only_informing
from celery_mysqllock.tasks.signals import lock_conflict

if TYPE_CHECKING:
    from celery import Task
    from celery.app.task import Context

    from celery_mysqllock.locks import Holder
    from celery_mysqllock.tasks.locked_call import LockedCall

logger = get_logger(__name__)

# A retry comes within this part of its countdown earlier or later, so that many do not meet again.
_JITTER = 0.25


def answer_conflict(call: LockedCall, holder: Holder | None) -> Any:  # noqa: ANN401 - the callable's
    """Do what the task's ``on_conflict`` says.

    Args:
        call: The call that did not get its lock.
        holder: Who has it, None when nobody can tell.

    Returns:
        ``skip_result``, or what the callable returns.

    Raises:
        OtherInstanceError: With ``raise``; with ``retry`` and ``queue`` too when there is no
            message, because the task was called directly or runs eagerly.
        Retry: The message was sent again.
        Reject: The job is put aside for a while, and keeps its place in the line of its key.
    """
    options, task, request = call.rule.options, call.task, call.request
    with only_informing():
        lock_conflict.send(
            sender=task,
            name=call.lock.name,
            task_id=request.id,
            waited=call.lock.waited,
            holder=holder,
        )
    with only_informing():
        logger.info(
            "Task %s[%s] did not get the lock %r, on_conflict=%s: it is held by %s",
            *(task.name, request.id, call.lock.name, options.on_conflict),
            holder or "another instance",
        )
    if options.on_conflict == "skip":
        return options.skip_result
    if callable(options.on_conflict):
        return options.on_conflict(task, holder)
    error = OtherInstanceError(
        f"Another instance of task {task.name} is running: the lock {call.lock.name!r} is held by "
        f"{holder or 'it'}.",
        name=call.lock.name,
        holder=holder,
    )
    if options.on_conflict == "retry" and not call.is_direct:
        raise _send_again(task, request, options.retry_countdown, error)
    if options.on_conflict == "queue" and not call.is_direct:
        request.called_directly = True  # as below
        # the broker takes seconds as well as True
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
    """Let what is raised through ``autoretry_for=(Exception,)``, which would send the task again.

    ``Task.retry``, which autoretry calls, re-raises the error for a request that was called
    directly, and this is the only thing that Celery uses the flag for from here on. A task that
    names the error itself in ``autoretry_for``, or ``LockError``, gets its retry.
    """
    for kind in getattr(task, "autoretry_for", ()):
        if issubclass(kind, MySQLLockError) and issubclass(OtherInstanceError, kind):
            return
    request.called_directly = True
