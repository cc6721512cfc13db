"""``Task.apply_async`` for unique and ordered tasks, and ``Task.lock_for``, set on Celery's Task.

Celery has no hook between a call and its message that knows the task and the arguments. So this
file replaces ``Task.apply_async``, once, when it is imported. A task without a lock is sent by
Celery's method, unchanged.
"""

from __future__ import annotations

import functools
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from celery import Task
from celery.signals import worker_init
from celery.utils.log import get_logger

from celery_mysqllock.exceptions import JobExists, SettingsError
from celery_mysqllock.jobs import UNIQUE_KINDS, UNTIL_DONE, unique_key
from celery_mysqllock.tasks.spec import lock_for, spec_of

if TYPE_CHECKING:
    from celery.result import AsyncResult
    from kombu import Connection, Producer

    from celery_mysqllock.tasks.spec import LockSpec

logger = get_logger(__name__)

_celerys_apply_async = Task.apply_async

# A name in the transport's ``implements``, what the task asks for, and what to do without it.
_UNIQUE = ("unique_jobs", "is unique, which the job table makes it", "leave unique out")
_ORDERED = (
    "ordered_jobs",
    'has on_conflict="queue", which the job table does',
    "another on_conflict",
)


@functools.wraps(_celerys_apply_async)
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
    """Send the task as Celery does, with the keys that its lock's options ask for.

    With ``on_conflict="queue"`` the message carries the order key of the call. With ``unique`` it
    carries a unique key, and is stored only when no other job has that key. A call that already has
    a ``task_id`` (a retry, a part of a chain, group or chord, or an id that the caller chose) is
    always stored, since a caller may be waiting for that very id; it gets the key if no other job
    has it.

    Returns:
        The result of the new job, or of the job that has the unique key.

    Raises:
        SettingsError: ``unique`` is not allowed, the task has no key, the broker is not
            ``mysql://``, or a task that is unique until it is done is acknowledged before.
        TypeError: The arguments do not fit the task, or one cannot be part of a key.
    """
    spec = spec_of(self)
    kind = _unique_kind(self, spec, task_id, options)
    send = functools.partial(_celerys_apply_async, self, args, kwargs, task_id)
    more = (link, link_error, shadow)
    is_ordered = spec is not None and spec.options.on_conflict == "queue"
    if spec is None or self.app.conf.task_always_eager or not (is_ordered or kind):
        return send(producer, *more, **options)
    properties: dict[str, Any] = {}  # keywords of publish, which become the message's properties
    if is_ordered:
        properties["order_key"] = spec.order_key(self, args or (), kwargs or {})
        properties["order_limit"] = spec.options.limit
    if kind:
        properties["unique_key"] = unique_key(kind, spec.key(self, args or (), kwargs or {}))
        properties["must_store"] = task_id is not None
    connection = options.get("connection")
    # Acquired here: an error that leaves Celery's own "with" costs the pool its connection.
    acquired: Any = nullcontext() if connection else self.app.producer_or_acquire(producer)
    with acquired as own:
        _check(self, connection or own.connection, kind, task_id, is_ordered=is_ordered)
        try:
            return send(own, *more, **options, **properties)
        except JobExists as error:
            logger.info("Task %s is not sent: %s Its task is %s.", self.name, error, error.task_id)
            return _result_of(self, error.task_id, options)


def _unique_kind(
    task: Task, spec: LockSpec | None, task_id: str | None, options: dict[str, Any]
) -> str | None:
    """Until when the call is to be the only one of its key, None when it need not be unique."""
    if "unique" in options:
        kind = options.pop("unique")
        if kind is not None and kind not in UNIQUE_KINDS:
            raise SettingsError(
                f"Task {task.name}: unique={kind!r} is not allowed: it takes "
                f"{', '.join(map(repr, UNIQUE_KINDS))}, or None."
            )
        if kind is not None and spec is None:
            raise SettingsError(
                f"Task {task.name} is to be unique, but nothing says which of its calls are equal. "
                "Give it @single_instance(unique_on=[...]), with limit=None for no lock."
            )
        return None if kind is None else str(kind)
    if spec is None:
        return None
    request = task.request
    if task_id is not None and request.id == task_id:
        # a retry is what the first attempt was
        own = (request.properties or {}).get("unique_key")
        return None if own is None else str(own).partition(":")[0]
    return spec.options.unique


def _check(
    task: Task, connection: Connection, kind: str | None, task_id: str | None, *, is_ordered: bool
) -> None:
    """Refuse what the broker cannot do, and a key that would be free when the task begins."""
    transport = connection.get_transport_cls()
    for is_asked, (capability, asks, otherwise) in ((kind, _UNIQUE), (is_ordered, _ORDERED)):
        if is_asked and not transport.implements.get(capability):
            raise SettingsError(
                f"Task {task.name} {asks}, and its broker is {transport.driver_type}: use mysql:// "
                f"as the broker, or {otherwise}."
            )
    # an ordered task is acknowledged late in any case, and a retry must not get lost
    if kind == UNTIL_DONE and not (is_ordered or task.acks_late or task_id is not None):
        raise SettingsError(
            f"Task {task.name} has unique={kind!r} and is acknowledged when it begins, which frees "
            "its key. Give it acks_late=True, or unique='queued'."
        )


def _result_of(task: Task, task_id: str | None, options: dict[str, Any]) -> AsyncResult:
    """The result of a job that was there, treated as Celery treats that of a new one."""
    result = task.AsyncResult(task_id)
    result.ignored = options.get("ignore_result", task.ignore_result)
    parent = task.app.current_worker_task
    if parent and options.get("add_to_parent", True):
        parent.add_trail(result)
    return result


@worker_init.connect(weak=False)
def acknowledge_late(sender: Any, **_: Any) -> None:  # noqa: ANN401 - a signal's
    """Make a worker that is about to start keep the rows of ordered tasks until they have ended.

    The next job of a key waits for that row. Acknowledged early, it would go when the task begins.
    """
    for task in sender.app.tasks.values():
        spec = spec_of(task)
        if spec is not None and spec.options.on_conflict == "queue":
            task.acks_late = True


Task.apply_async = apply_async
Task.lock_for = lock_for
