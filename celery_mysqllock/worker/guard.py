"""Keeps one message, or one remote control command, from ending a worker.

Celery's loop calls its strategies, its pool and the effects of commands without catching errors. An
error that one message provokes there ends the process, and the next worker gets the message.
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

# The pools whose tasks run in threads or greenlets of the worker's own process.
_IN_PROCESS = tuple(f"celery.concurrency.{name}" for name in ("thread", "gevent", "eventlet"))
# Errors that Celery has to see: the connection is gone, or the process is out of memory.
_PASSED_ON = (*Transport.connection_errors, MemoryError)


def install(_controller: Any) -> None:
    """Guard the places at which a message or a command can provoke an error."""
    replace(BasePool, "start", _reporting_any_end)
    replace(Consumer, "create_task_handler", _burying_unhandled)
    replace(WorkController, "_process_task", _burying_unaccepted)
    replace(Request, "on_failure", _burying_unended)
    replace(Request, "on_success", _burying_unended)
    replace(Request, "on_timeout", _burying_unended)
    replace(Mingle, "send_hello", _ignoring_bad_replies)
    replace(Consumer, "add_task_queue", _refusing_bad_queues)
    replace(Consumer, "cancel_task_queue", _refusing_bad_queues)


def _burying_unhandled(create: Callable[..., Any]) -> Callable[..., Any]:
    """Have the handlers of messages keep a message as dead that they fail on."""

    def create_burying(consumer: Any, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        handle = create(consumer, *args, **kwargs)

        @functools.wraps(handle)
        def handle_or_bury(message: Any) -> None:
            try:
                _check_old(message)
                handle(message)
            except _PASSED_ON:
                raise
            except Exception as error:
                if not _bury(message, "Celery's worker cannot take the message", error):
                    raise

        return handle_or_bury

    return create_burying


def _check_old(message: Any) -> None:
    """Refuse a message of Celery's protocol 1, all of which is in its body, if it is no task's.

    Raises:
        InvalidJob: The worker would fail on it.
    """
    if not isinstance(message, Delivery) or "task" in message.headers:
        return
    try:
        body = message.payload
    except Exception:  # noqa: BLE001 - whatever the body is; Celery reports it
        return
    if isinstance(body, dict) and "task" in body:
        check_task(body, _has_no_id)
        check_body(body)


def _has_no_id() -> str:
    raise InvalidJob("The message has no id.")


def _burying_unaccepted(process: Callable[..., Any]) -> Callable[..., Any]:
    """Keep a message as dead whose task the pool does not take."""

    def process_or_bury(worker: Any, request: Any) -> None:
        try:
            process(worker, request)
        except _PASSED_ON:
            raise
        except Exception as error:
            if request.acknowledged:
                logger.exception("The task %s breaks the pool", request)
            elif not _bury(request.message, "The task cannot be handed to the pool", error):
                raise
            _forget(worker, request)

    return process_or_bury


def _reporting_any_end(start: Callable[..., Any]) -> Callable[..., Any]:
    """Have a pool of threads or greenlets report the end of everything that it runs.

    It runs Celery's tracer. Where that raises, a ``SystemExit`` of the task for example, the thread
    swallows the error: the message would stay unsettled, and keep its place in the window.
    """

    def start_reporting(pool: Any) -> None:
        if type(pool).__module__ in _IN_PROCESS:
            # before the first task, as Celery asks the pool for its method once
            apply_async = pool.apply_async
            pool.apply_async = lambda target, *args, **kwargs: apply_async(
                _returning_errors(target), *args, **kwargs
            )
        start(pool)

    return start_reporting


def _returning_errors(target: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(target)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return target(*args, **kwargs)
        except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001 - all of them
            # as the tracer reports a failure: whether it failed, the error, and the seconds
            return True, _failure_of(error), 0.0

    return run


def _failure_of(error: BaseException) -> ExceptionInfo:
    """The failure that Celery's request gets for a task that the tracer did not report."""
    try:
        raise WorkerLostError(f"The task has ended with {error!r}.") from error  # noqa: TRY301
    except WorkerLostError:
        return ExceptionInfo()


def _burying_unended(end: Callable[..., Any]) -> Callable[..., Any]:
    """Keep a message as dead when ending its task fails: it would stay unsettled for good."""

    def end_or_bury(request: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return end(request, *args, **kwargs)
        except _PASSED_ON:
            raise
        except Exception as error:
            if not request.acknowledged:
                _bury(request.message, "The task has ended, and its end cannot be told", error)
            raise

    return end_or_bury


def _forget(worker: Any, request: Any) -> None:
    """Free what Celery keeps for a request that its pool did not take."""
    task_ready(request)
    if worker.pool_putlocks and worker.pool_cls.uses_semaphore and hasattr(worker, "semaphore"):
        worker.semaphore.release()
    for result in list(getattr(getattr(worker.pool, "_pool", None), "_cache", {}).values()):
        is_its = getattr(result, "correlation_id", None) == request.id
        if is_its and not hasattr(result, "_payload"):
            result.discard()


def _ignoring_bad_replies(ask: Callable[..., Any]) -> Callable[..., Any]:
    """Have a worker that starts go on without the replies of others that it cannot read."""

    def ask_or_do_without(mingle: Any, consumer: Any) -> Any:
        try:
            return ask(mingle, consumer)
        except _PASSED_ON:
            raise
        except Exception:
            logger.exception("mingle: the replies of other workers cannot be read")
            return {}

    return ask_or_do_without


def _refusing_bad_queues(run: Callable[..., Any]) -> Callable[..., Any]:
    """Refuse a queue that a command asks for and that cannot be consumed from.

    The loop runs this later than the command, so its sender gets no answer of it.
    """

    def run_or_refuse(consumer: Any, queue: Any, *args: Any, **kwargs: Any) -> None:
        try:
            _check_names(queue, *args)
            run(consumer, queue, *args, **kwargs)
        except _PASSED_ON:
            raise
        except Exception as error:  # noqa: BLE001 - whatever the arguments provoke
            logger.error(  # noqa: TRY400 - a traceback of Celery's does not help
                "%s of the queue %s: %s: %.1000s",
                run.__name__,
                shown(queue),
                _kind(error),
                fitting(str(error)),
            )
            if isinstance(queue, str):
                # with the next connection it would be declared again, and end the worker
                consumer.app.amqp.queues.deselect(queue)
                consumer.task_consumer.cancel_by_queue(queue)

    return run_or_refuse


def _check_names(queue: object, *others: object) -> None:
    """Do nothing if a server can compare the names of the queue and of what it is bound to.

    Raises:
        SettingsError: It cannot.
    """
    for name in (queue, *(one for one in others if one is not None)):
        if not is_text(QUEUE_NAME_LIMIT)(name):
            raise SettingsError(
                f"{shown(name)} is no name; it must be a string of 1 to {QUEUE_NAME_LIMIT} "
                "characters."
            )


def _bury(message: Any, what: str, error: Exception) -> bool:
    """Keep a message as dead that has provoked an error; False when it is another transport's."""
    if not isinstance(message, Delivery) or not isinstance(message.channel, Channel):
        return False
    if isinstance(error, InvalidJob):
        reason = str(error)
    else:
        reason = f"{what}: {_kind(error)}: {error}"
        logger.error("The worker's code fails on job %s", message.delivery_tag, exc_info=error)
    message.bury(fitting(reason))
    return True


def _kind(error: Exception) -> str:
    return type(error).__name__
