"""Writes into a dead job's row why it is dead: how its task failed, or why Celery rejected it.

With a prefork pool the signal ``task_failure`` is sent in the child process. The main process,
which rejects the message, sends none.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from billiard.einfo import ExceptionWithTraceback
from celery.exceptions import Reject
from celery.signals import task_rejected, task_unknown
from celery.worker.request import Request

from celery_mysqllock.broker.channel import Channel
from celery_mysqllock.broker.delivery import Delivery
from celery_mysqllock.jobs.reason import REASON_LIMIT
from celery_mysqllock.worker.replaced import replace

if TYPE_CHECKING:
    from collections.abc import Callable

    from billiard.einfo import ExceptionInfo
    from kombu.transport.virtual import Message


def install(_controller: Any) -> None:
    """Have each request of the worker leave its failure with its message."""
    replace(Request, "on_failure", _note_failure)
    task_unknown.connect(explain_unknown_task, weak=False)
    task_rejected.connect(explain_invalid_message, weak=False)


def _note_failure(on_failure: Callable[..., Any]) -> Callable[..., Any]:
    def note(request: Any, exc_info: ExceptionInfo, *args: Any, **kwargs: Any) -> Any:
        if isinstance(request.message, Delivery):
            # the event loop rejects the message after this has returned
            request.message.failure = functools.partial(describe, exc_info)
        return on_failure(request, exc_info, *args, **kwargs)

    return note


def describe(exc_info: ExceptionInfo) -> str:
    """The failure with its traceback; the end of a traceback that is too long."""
    error = exc_info.exception
    if isinstance(error, ExceptionWithTraceback):
        error = error.exc
    if isinstance(error, Reject):
        headline = f"Rejected by the task: {_sentence(error.reason)}"
    else:
        headline = _sentence(error)
    traceback = str(exc_info.traceback or "").strip()
    return f"{headline[: REASON_LIMIT // 4]}\n\n{traceback[-REASON_LIMIT * 3 // 4 :]}".strip()


def _sentence(reason: object) -> str:
    return f"{type(reason).__name__}: {reason}" if isinstance(reason, Exception) else str(reason)


def explain_unknown_task(message: Message, name: str, **_: Any) -> None:
    """The task's name is not registered in the worker."""
    _explain(
        message,
        f"The worker knows no task {name!r}. Import its module in the worker (setting 'imports' "
        "or 'include'), then queue the job again.",
    )


def explain_invalid_message(message: Message, exc: Exception | None, **_: Any) -> None:
    """The message is not a task's."""
    _explain(message, f"{type(exc).__name__}: {exc}" if exc else "The message names no task.")


def _explain(message: Message, reason: str) -> None:
    if isinstance(message.channel, Channel):
        message.channel.explain_rejection(message.delivery_tag, reason)
