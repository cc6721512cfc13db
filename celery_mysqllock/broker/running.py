"""What Celery's worker is doing: which messages it runs whatever happens, and whether it ends."""

from __future__ import annotations

import sys
import threading
import time
from functools import cache
from typing import TYPE_CHECKING, Any

from celery_mysqllock.exceptions import MySQLLockError

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from kombu.transport import virtual

# Seconds in which a task of a worker that was asked to end may find a server.
_MOMENT = 10.0


def running_tags(channel: virtual.Channel) -> set[int]:
    """The delivery tags of the channel's messages whose tasks go on when it is closed.

    Celery drops the tasks that its pool does not have yet (``Consumer.on_close``), those that wait
    for a process of the prefork pool (``AsynPool.flush``), and with
    ``worker_cancel_long_running_tasks_on_connection_loss`` those that it ends. All others end by
    themselves and settle their messages then. To be called right before Celery drops them.
    """
    state = sys.modules.get("celery.worker.state")
    if state is None:
        return set()
    active, reserved = _snapshot(state.active_requests), _snapshot(state.reserved_requests)
    going_on = {request for request in active if not _is_cancelled(request)}
    going_on |= {request for request in reserved - active if _has_begun(request)}
    return {
        request.message.delivery_tag
        for request in going_on
        if request.message.channel is channel and isinstance(request.message.delivery_tag, int)
    }


def end_if_asked() -> None:
    """Do nothing, unless the worker was asked to end; for who could not connect, and tries again.

    Celery looks at each turn of its event loop; but a publish in the loop, a heartbeat's, tries to
    connect for as long as no server answers. In pools of threads and greenlets heartbeats have one
    of their own, and the worker waits for it when it ends. Tasks that still run there get a moment.

    Raises:
        SystemExit: In the main thread: Celery's ``WorkerShutdown`` or ``WorkerTerminate``, which
            end the loop.
        MySQLLockError: In any other, ten seconds later: nobody tries again after it.
    """
    state = sys.modules.get("celery.worker.state")
    if state is None or not _is_to_end(state):
        return
    if threading.current_thread() is threading.main_thread():
        state.maybe_shutdown()
    elif time.monotonic() - _seen_to_end() > _MOMENT:
        raise MySQLLockError("The worker ends and no server answers, so this is not tried again.")


def _is_to_end(state: Any) -> bool:  # noqa: ANN401 - Celery's module
    # an exit code each, which may be 0
    flags = (state.should_stop, state.should_terminate)
    return any(flag is not None and flag is not False for flag in flags)


@cache
def _seen_to_end() -> float:
    """When this process was first seen to be about to end."""
    return time.monotonic()


def busy_with(channel: virtual.Channel, unacked: Container[int | str]) -> int:
    """How many tasks the worker has, beside those of the channel's unacknowledged messages."""
    state = sys.modules.get("celery.worker.state")
    reserved = set() if state is None else _snapshot(state.reserved_requests)
    return sum(
        request.message.channel is not channel or request.message.delivery_tag not in unacked
        for request in reserved
    )


def _snapshot(requests: Iterable[Any]) -> set[Any]:
    while True:
        try:
            return set(requests)
        except RuntimeError:  # a thread of the pool has changed it meanwhile
            continue


def _is_cancelled(request: Any) -> bool:  # noqa: ANN401 - Celery's are untyped
    """Whether Celery is about to end a task that runs; a pool of threads cannot."""
    return (
        request.app.conf.worker_cancel_long_running_tasks_on_connection_loss
        and request.task.acks_late
        and not request.acknowledged
        and (_is_eventlet() or hasattr(_result(request), "terminate"))
    )


def _has_begun(request: Any) -> bool:  # noqa: ANN401 - as above
    """Whether the pool will run a task that is not active yet."""
    if request._apply_result is None:  # noqa: SLF001 - no public way
        return _is_eventlet()
    result = _result(request)
    if not hasattr(result, "_write_to"):
        # threads and greenlets cannot take back what they were given
        return True
    process = result._write_to  # noqa: SLF001
    if process is None or not process._is_alive():  # noqa: SLF001
        return False
    # The process reads what it was sent, and runs it. Celery would forget the task all the same,
    # since the process has not said so yet, and nobody would acknowledge it.
    result.discard = lambda: None
    return True


def _is_eventlet() -> bool:
    """Whether the pool is eventlet's, which gives no results; it has all that is reserved."""
    return "celery.concurrency.eventlet" in sys.modules


def _result(request: Any) -> Any:  # noqa: ANN401 - as above
    """The pool's result of the task; None when it has none yet, and for threads."""
    reference = request._apply_result  # noqa: SLF001
    return reference and reference()
