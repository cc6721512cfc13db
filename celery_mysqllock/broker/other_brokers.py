"""Refuses tasks for brokers that are not ``mysql://`` inside of a ``transaction`` block.

Celery has no hook that may refuse a message; all of its tasks go through kombu's producer.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from kombu.messaging import Producer

from celery_mysqllock.broker.transaction import check_broker

if TYPE_CHECKING:
    from collections.abc import Mapping

_publish = Producer.publish


@functools.wraps(_publish)
def publish(self: Producer, body: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - kombu's
    """Publish the message, as kombu does.

    Raises:
        TransactionError: It is a task, and a block is open whose transaction it cannot join.
    """
    task = _task_in(kwargs.get("headers")) or _task_in(body)
    if task is not None and (broker := _other_broker(self)) is not None:
        check_broker(broker, str(task["task"]), task.get("id"))
    return _publish(self, body, *args, **kwargs)


def _task_in(found: Any) -> Mapping[str, Any] | None:  # noqa: ANN401 - headers or a body
    """The headers of a task; or the body in Celery's protocol 1."""
    return found if isinstance(found, dict) and found.keys() >= {"task", "id"} else None


def _other_broker(producer: Producer) -> str | None:
    """What the producer's broker is called, None when it is ``mysql://``."""
    connection = producer.connection
    if connection is None:
        return None
    # unique_jobs is an ability of ours
    transport = connection.get_transport_cls()
    return None if transport.implements.get("unique_jobs") else str(transport.driver_type)


Producer.publish = publish
