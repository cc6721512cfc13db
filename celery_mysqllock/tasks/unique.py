"""Unique tasks: of calls with the same key one is stored, and the others get its result."""

from __future__ import annotations

import functools
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from celery import Task
from celery.utils.log import get_logger

from celery_mysqllock.exceptions import JobExists, SettingsError
from celery_mysqllock.jobs import UNIQUE_KINDS, UNTIL_DONE, unique_key
from celery_mysqllock.tasks.broker import check_broker
from celery_mysqllock.tasks.rule import rule_of

if TYPE_CHECKING:
    from celery.result import AsyncResult
    from kombu import Producer

    from celery_mysqllock.tasks.rule import LockRule

logger = get_logger(__name__)

_send = Task.apply_async


@functools.wraps(_send)
def apply_async(  # noqa: PLR0913, PLR0917 - Celery's signature
    self: Task,
    args: Any = None,  # noqa: ANN401 - Celery's
    kwargs: Any = None,  # noqa: ANN401 - Celery's
    task_id: str | None = None,
    producer: Producer | None = None,
    link: Any = None,  # noqa: ANN401 - Celery's
    link_error: Any = None,  # noqa: ANN401 - Celery's
    shadow: str | None = None,
    **options: Any,  # noqa: ANN401 - Celery's
) -> AsyncResult:
    """Send the task, as Celery does; with ``unique`` at most once at a time for a key.

    A call that has a ``task_id`` already (a retry, a part of a chain, group or chord, or one that
    the caller gave) is stored whatever happens, since somebody may wait for that very id. It has
    the key if no other job has it.

    Returns:
        The result of the new job, or of the one that has the key.

    Raises:
        SettingsError: ``unique`` is not allowed, the task has no key, the broker is not
            ``mysql://``, or a task that is unique until it is done is acknowledged before.
        TypeError: The arguments do not fit the task, or one cannot be part of a key.
    """
    rule = rule_of(self)
    kind = _kind(self, rule, task_id, options)
    more = (link, link_error, shadow)
    if kind is None or rule is None or self.app.conf.task_always_eager:
        return _send(self, args, kwargs, task_id, producer, *more, **options)
    key = unique_key(kind, rule.key(self, args or (), kwargs or {}))
    unique = {"unique_key": key, "must_store": task_id is not None}
    connection = options.get("connection")
    # An error that leaves Celery's own "with" costs the pool its connection.
    held: Any = nullcontext() if connection else self.app.producer_or_acquire(producer)
    with held as own:
        check_broker(
            self,
            connection or own.connection,
            "unique_jobs",
            asks="is unique, which the job table makes it",
            otherwise="leave unique out",
        )
        if rule.options.on_conflict != "queue":  # which acknowledges late in any case
            _check_ack(self, kind, task_id)
        try:
            return _send(self, args, kwargs, task_id, own, *more, **options, **unique)
        except JobExists as error:
            logger.info("Task %s is not sent: %s Its task is %s.", self.name, error, error.task_id)
            return _result_of(self, error.task_id, options)


def _kind(
    task: Task, rule: LockRule | None, task_id: str | None, options: dict[str, Any]
) -> str | None:
    """For how long the call is to be the only one, None for not at all."""
    if "unique" in options:
        kind = options.pop("unique")
        if kind is not None and kind not in UNIQUE_KINDS:
            raise SettingsError(
                f"Task {task.name}: unique={kind!r} is not allowed: it takes "
                f"{', '.join(map(repr, UNIQUE_KINDS))}, or None."
            )
        if kind is not None and rule is None:
            raise SettingsError(
                f"Task {task.name} is to be unique, but nothing says which of its calls are equal. "
                "Give it @single_instance(unique_on=[...]), with limit=None for no lock."
            )
        return None if kind is None else str(kind)
    if rule is None:
        return None
    request = task.request
    if task_id is not None and request.id == task_id:
        # a retry is what the first attempt was
        own = (request.properties or {}).get("unique_key")
        return None if own is None else str(own).partition(":")[0]
    return rule.options.unique


def _check_ack(task: Task, kind: str, task_id: str | None) -> None:
    """Refuse what would be free when the task begins; but no retry, which must not get lost."""
    if kind == UNTIL_DONE and not task.acks_late and task_id is None:
        raise SettingsError(
            f"Task {task.name} has unique={kind!r} and is acknowledged when it begins, which frees "
            "its key. Give it acks_late=True, or unique='queued'."
        )


def _result_of(task: Task, task_id: str | None, options: dict[str, Any]) -> AsyncResult:
    """The result of a job that was there, with what Celery does with that of a new one."""
    result = task.AsyncResult(task_id)
    result.ignored = options.get("ignore_result", task.ignore_result)
    parent = task.app.current_worker_task
    if parent and options.get("add_to_parent", True):
        parent.add_trail(result)
    return result
