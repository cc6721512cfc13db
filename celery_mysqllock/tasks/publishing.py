"""What a task with ``on_conflict="queue"`` is sent with, and how a worker acknowledges it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from celery import Task
from celery.signals import worker_init

from celery_mysqllock.exceptions import SettingsError
from celery_mysqllock.tasks.rule import rule_of

if TYPE_CHECKING:
    from celery.result import AsyncResult
    from kombu import Connection, Producer

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
    _check_broker(self, options.get("connection") or (producer and producer.connection))
    # publish's own keywords become properties of the message
    return send(
        order_key=rule.order_key(self, args or (), kwargs or {}), order_limit=rule.options.limit
    )


def _check_broker(task: Task, connection: Connection | None) -> None:
    used = connection or task.app.producer_pool.connections.connection
    transport = used.get_transport_cls()
    if not transport.implements.get("ordered_jobs"):
        raise SettingsError(
            f'Task {task.name} has on_conflict="queue", which the job table does, and its broker '
            f"is {transport.driver_type}: use mysql:// as the broker, or another on_conflict."
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
