"""What a task with ``on_conflict="queue"`` is sent with, and how a worker acknowledges it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from celery import Task
from celery.signals import worker_init

from celery_mysqllock.tasks.broker import check_broker
from celery_mysqllock.tasks.rule import rule_of

if TYPE_CHECKING:
    from celery.result import AsyncResult
    from kombu import Producer

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
    """Send the task, as Celery does; with ``on_conflict="queue"`` into the line of its key.

    Raises:
        SettingsError: The broker is not ``mysql://``, whose job table keeps the lines.
        TypeError: The arguments do not fit the task, or one cannot be part of a key.
    """
    given = (args, kwargs, task_id, producer, link, link_error, shadow)
    send = functools.partial(_send, self, *given, **options)
    rule = rule_of(self)
    if rule is None or rule.options.on_conflict != "queue" or self.app.conf.task_always_eager:
        return send()
    check_broker(
        self,
        options.get("connection")
        or (producer and producer.connection)
        or self.app.producer_pool.connections.connection,
        "ordered_jobs",
        asks='has on_conflict="queue", which the job table does',
        otherwise="another on_conflict",
    )
    # publish's own keywords become properties of the message
    return send(
        order_key=rule.order_key(self, args or (), kwargs or {}), order_limit=rule.options.limit
    )


@worker_init.connect(weak=False)
def acknowledge_late(sender: Any, **_: Any) -> None:  # noqa: ANN401 - a signal's
    """Have a worker that is about to start keep the rows of ordered tasks until they have ended.

    The row is what the next of its key waits for; acknowledged early, it goes when the task begins.
    """
    for task in sender.app.tasks.values():
        rule = rule_of(task)
        if rule is not None and rule.options.on_conflict == "queue":
            task.acks_late = True


# Celery has no hook between a call and its message that knows task and arguments.
Task.apply_async = apply_async
