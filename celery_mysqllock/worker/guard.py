"""Keeps one message, or one remote control command, from ending a worker.

Celery's loop calls its strategies, its pool and what a command has asked for without catching
errors. An error that one message provokes there ends the process, and the message goes to the next.
"""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Any

from billiard.einfo import ExceptionInfo
from billiard.exceptions import WorkerLostError
from celery.concurrency.base import BasePool
from celery.worker import WorkController
from celery.worker.consumer import Consumer
from celery.worker.consumer.mingle import Mingle
from celery.worker.request import Request
from celery.worker.state import task_ready

from celery_mysqllock.broker import Transport
from celery_mysqllock.broker.channel import Channel
from celery_mysqllock.broker.delivery import Delivery
from celery_mysqllock.broker.envelope import check_body, check_task, is_text, shown
from celery_mysqllock.exceptions import InvalidJob, SettingsError
from celery_mysqllock.jobs.job import QUEUE_NAME_LIMIT
from celery_mysqllock.jobs.reason import fitting
from celery_mysqllock.worker.replaced import replace

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

# The pools whose tasks run in the worker's own process, beside its main thread.
_SHARED = tuple(f"celery.concurrency.{name}" for name in ("thread", "gevent", "eventlet"))
# The connection is gone, which Celery has to see; or the process is in trouble, not the message.
_NOT_OF_THE_MESSAGE = (*Transport.connection_errors, MemoryError)


def install(_controller: Any) -> None:
    """Guard the places at which a message or a command can provoke an error."""
    replace(BasePool, "start", _guarded_start)
    replace(Consumer, "create_task_handler", _guarded_handlers)
    replace(WorkController, "_process_task", _guarded_handing)
    replace(Request, "on_failure", _guarded_end)
    replace(Request, "on_success", _guarded_end)
    replace(Request, "on_timeout", _guarded_end)
    replace(Mingle, "send_hello", _guarded_hello)
    replace(Consumer, "add_task_queue", _guarded_command)
    replace(Consumer, "cancel_task_queue", _guarded_command)


def _guarded_handlers(create: Callable[..., Any]) -> Callable[..., Any]:
    """What makes the handlers of messages: each keeps a message as dead that breaks it."""

    def create_guarded(consumer: Any, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        handle = create(consumer, *args, **kwargs)

        @functools.wraps(handle)
        def handle_or_bury(message: Any) -> None:
            try:
                _check_old(message)
                handle(message)
            except _NOT_OF_THE_MESSAGE:
                raise
            except Exception as error:
                if not _bury(message, "Celery's worker cannot take the message", error):
                    raise

        return handle_or_bury

    return create_guarded


def _check_old(message: Any) -> None:
    """Refuse a message of Celery's protocol 1, whose body holds all, when it is no task's."""
    if not isinstance(message, Delivery) or "task" in message.headers:
        return
    try:
        body = message.payload
    except Exception:  # noqa: BLE001 - whatever the body is; Celery says so
        return
    if isinstance(body, dict) and "task" in body:
        check_task(body, _has_no_id)
        check_body(body)


def _has_no_id() -> str:
    raise InvalidJob("The message has no id.")


def _guarded_handing(process: Callable[..., Any]) -> Callable[..., Any]:
    """What hands a task to the pool: one that cannot be handed over is dead."""

    def process_or_bury(worker: Any, request: Any) -> None:
        try:
            process(worker, request)
        except _NOT_OF_THE_MESSAGE:
            raise
        except Exception as error:
            if request.acknowledged:
                logger.exception("The task %s breaks the pool", request)
            elif not _bury(request.message, "The task cannot be handed to the pool", error):
                raise
            _forget(worker, request)

    return process_or_bury


def _guarded_start(start: Callable[..., Any]) -> Callable[..., Any]:
    """What starts a pool: one of threads or greenlets is to tell the end of whatever it runs.

    Its target is Celery's tracer. An error out of it, a SystemExit of the task or one of its own,
    is swallowed by the thread, and the request would stay unsettled, its place in the window taken.
    """

    def start_guarded(pool: Any) -> None:
        if type(pool).__module__ in _SHARED:
            # before the first task: Celery takes the method from the pool once
            apply_async = pool.apply_async
            pool.apply_async = lambda target, *args, **kwargs: apply_async(
                _caught(target), *args, **kwargs
            )
        start(pool)

    return start_guarded


def _caught(target: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(target)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return target(*args, **kwargs)
        except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001 - all of them
            # as the tracer tells a failure: it failed, with this, after so many seconds
            return True, _told(error), 0.0

    return run


def _told(error: BaseException) -> ExceptionInfo:
    """What Celery's request takes for the failure of a task whose end nobody was told of."""
    try:
        raise WorkerLostError(f"The task has ended with {error!r}.") from error  # noqa: TRY301
    except WorkerLostError:
        return ExceptionInfo()


def _guarded_end(end: Callable[..., Any]) -> Callable[..., Any]:
    """What ends a task that failed: an error in it would leave the message unsettled for good."""

    def end_or_bury(request: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return end(request, *args, **kwargs)
        except _NOT_OF_THE_MESSAGE:
            raise
        except Exception as error:
            if not request.acknowledged:
                _bury(request.message, "The task has ended, and its end cannot be told", error)
            raise

    return end_or_bury


def _forget(worker: Any, request: Any) -> None:
    """Free what Celery holds for a request that its pool has never got."""
    task_ready(request)
    if worker.pool_putlocks and worker.pool_cls.uses_semaphore and hasattr(worker, "semaphore"):
        worker.semaphore.release()
    for result in list(getattr(getattr(worker.pool, "_pool", None), "_cache", {}).values()):
        is_its = getattr(result, "correlation_id", None) == request.id
        if is_its and not hasattr(result, "_payload"):
            result.discard()


def _guarded_hello(ask: Callable[..., Any]) -> Callable[..., Any]:
    """What asks other workers at the start, and must not end by what is taken for their replies."""

    def ask_or_do_without(mingle: Any, consumer: Any) -> Any:
        try:
            return ask(mingle, consumer)
        except _NOT_OF_THE_MESSAGE:
            raise
        except Exception:
            logger.exception("mingle: the replies of other workers cannot be read")
            return {}

    return ask_or_do_without


def _guarded_command(run: Callable[..., Any]) -> Callable[..., Any]:
    """What a remote control command has asked for, run later by the loop."""

    def run_or_refuse(consumer: Any, queue: Any, *args: Any, **kwargs: Any) -> None:
        try:
            _check_names(queue, *args)
            run(consumer, queue, *args, **kwargs)
        except _NOT_OF_THE_MESSAGE:
            raise
        except Exception as error:  # noqa: BLE001 - whatever the command's arguments provoke
            logger.error(  # noqa: TRY400 - a traceback of Celery's would tell the user nothing
                "%s of the queue %s: %s: %.1000s",
                run.__name__,
                shown(queue),
                _kind(error),
                fitting(str(error)),
            )
            if isinstance(queue, str):
                # it would be declared again with the next connection, and end the worker then
                consumer.app.amqp.queues.deselect(queue)
                consumer.task_consumer.cancel_by_queue(queue)

    return run_or_refuse


def _check_names(queue: object, *others: object) -> None:
    """Do nothing when a queue and what it is bound to have names that a server can compare."""
    for name in (queue, *(one for one in others if one is not None)):
        if not is_text(QUEUE_NAME_LIMIT)(name):
            raise SettingsError(
                f"{shown(name)} is no name; it must be a string of 1 to {QUEUE_NAME_LIMIT} "
                "characters."
            )


def _bury(message: Any, what: str, error: Exception) -> bool:
    """Keep a message as dead that has provoked an error; False when it is none of ours."""
    if not isinstance(message, Delivery) or not isinstance(message.channel, Channel):
        return False
    is_told = isinstance(error, InvalidJob)
    reason = fitting(str(error) if is_told else f"{what}: {_kind(error)}: {error}")
    logger.error(
        "Job %s breaks the worker's code and is kept as dead. %.1000s",
        message.delivery_tag,
        reason,
        exc_info=None if is_told else error,
    )
    message.bury(reason)
    return True


def _kind(error: Exception) -> str:
    return type(error).__name__
