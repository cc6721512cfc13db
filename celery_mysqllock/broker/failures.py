"""Lets a message that is rejected know the failure of its task, so that a dead job's row holds it.

Celery tells nobody outside: with a prefork pool the signal ``task_failure`` is sent in the child
process, while the worker's main process, which rejects, sends none.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from billiard.einfo import ExceptionWithTraceback
from celery.exceptions import Reject
from celery.signals import worker_init

from celery_mysqllock.broker.delivery import Delivery
from celery_mysqllock.jobs.reason import REASON_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable

    from billiard.einfo import ExceptionInfo


@worker_init.connect(weak=False)
def watch_failures(**_: Any) -> None:  # noqa: ANN401 - a signal's
    """Have each request of a worker that is about to start leave its failure with its message."""
    # loaded by a worker alone
    from celery.worker.request import Request  # noqa: PLC0415

    if not hasattr(Request.on_failure, "__wrapped__"):
        Request.on_failure = _noting(Request.on_failure)


def _noting(on_failure: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(on_failure)
    def note(request: Any, exc_info: ExceptionInfo, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - Celery's
        if isinstance(request.message, Delivery):
            # the worker's event loop rejects it when this has long returned
            request.message.failure = functools.partial(describe, exc_info)
        return on_failure(request, exc_info, *args, **kwargs)

    return note


def describe(exc_info: ExceptionInfo) -> str:
    """The failure with its traceback, of which the end is kept when it is too long."""
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
