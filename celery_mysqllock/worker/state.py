"""Which requests Celery's worker has, and which of them it runs to their end whatever happens."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from celery.worker import state

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from kombu.transport import virtual


def running_tags(channel: virtual.Channel) -> set[int]:
    """The delivery tags of the channel's messages whose tasks go on when it is closed.

    Celery drops the tasks that its pool does not have yet (``Consumer.on_close``), those that wait
    for a process of the prefork pool (``AsynPool.flush``), and those that it ends because of
    ``worker_cancel_long_running_tasks_on_connection_loss``. All others end by themselves and settle
    their messages then. To be called right before Celery drops them.
    """
    active, reserved = _snapshot(state.active_requests), _snapshot(state.reserved_requests)
    going_on = {request for request in active if not _is_cancelled(request)}
    going_on |= {request for request in reserved - active if _has_begun(request)}
    return {
        request.message.delivery_tag
        for request in going_on
        if request.message.channel is channel and isinstance(request.message.delivery_tag, int)
    }


def busy_with(channel: virtual.Channel, unacked: Container[int | str]) -> int:
    """How many tasks the worker has beside those of the channel's unacknowledged messages."""
    return sum(
        request.message.channel is not channel or request.message.delivery_tag not in unacked
        for request in _snapshot(state.reserved_requests)
    )


def _snapshot(requests: Iterable[Any]) -> set[Any]:
    while True:
        try:
            return set(requests)
        except RuntimeError:  # a thread of the pool has changed it meanwhile
            continue


def _is_cancelled(request: Any) -> bool:
    """Whether Celery is about to end a running task. A pool of threads cannot."""
    return (
        request.app.conf.worker_cancel_long_running_tasks_on_connection_loss
        and request.task.acks_late
        and not request.acknowledged
        and (_is_eventlet() or hasattr(_result(request), "terminate"))
    )


def _has_begun(request: Any) -> bool:
    """Whether the pool will run a task that is not active yet."""
    if request._apply_result is None:
        return _is_eventlet()
    result = _result(request)
    if not hasattr(result, "_write_to"):
        # threads and greenlets cannot take back what they were given
        return True
    process = result._write_to
    if process is None or not process._is_alive():
        return False
    # The process reads what it was sent, and runs it. Celery would forget the task all the same,
    # since the process has not confirmed it yet, and the message would never be acknowledged.
    result.discard = lambda: None
    return True


def _is_eventlet() -> bool:
    """Whether the pool is eventlet's. It gives no results, and has all reserved requests."""
    return "celery.concurrency.eventlet" in sys.modules


def _result(request: Any) -> Any:
    """The pool's result of the task; None before it has one, and for threads."""
    reference = request._apply_result
    return reference and reference()
