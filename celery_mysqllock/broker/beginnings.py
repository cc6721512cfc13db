"""What a channel has to know of the Celery worker that it delivers to: what it runs, what it knows.

Celery says when the pool has accepted a task, but by a signal of the process that runs it. The
method that a worker's main process calls is the one place where the message is at hand.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from celery import bootsteps
from celery.signals import worker_init

from celery_mysqllock.broker.channel import Channel
from celery_mysqllock.broker.running import busy_with

if TYPE_CHECKING:
    from collections.abc import Callable


@worker_init.connect(weak=False)
def watch_beginnings(sender: Any, **_: Any) -> None:  # noqa: ANN401 - a signal's
    """Have a worker that is about to start tell its channel of each task that begins."""
    # loaded by a worker alone
    from celery.worker.request import Request  # noqa: PLC0415

    sender.app.steps["consumer"].add(Beginnings)
    if not hasattr(Request.on_accepted, "__wrapped__"):
        Request.on_accepted = _telling(Request.on_accepted)


def _telling(on_accepted: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(on_accepted)
    def tell(request: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - Celery's
        channel = request.message.channel
        if isinstance(channel, Channel) and isinstance(request.message.delivery_tag, int):
            channel.note_beginning(request.message.delivery_tag)
        return on_accepted(request, *args, **kwargs)

    return tell


class Beginnings(bootsteps.StartStopStep):
    """Shows the worker to the channel from which it consumes tasks, before it does."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, consumer: Any) -> None:  # noqa: ANN401 - Celery's
        """Show it to the channel of this connection."""
        channel = consumer.task_consumer.channel
        if isinstance(channel, Channel):
            channel.serve(_Worker(consumer, channel))


class _Worker:
    """As in ``channel.Worker``."""

    def __init__(self, consumer: Any, channel: Channel) -> None:  # noqa: ANN401 - Celery's
        self._consumer = consumer
        self._channel = channel

    def slots(self) -> int:
        controller, pool = self._consumer.controller, self._consumer.pool
        most = int(getattr(controller, "max_concurrency", None) or pool.num_processes or 1)
        return max(0, most - busy_with(self._channel, self._channel.qos.unacked))

    def knows(self, task: str) -> bool:
        return task in self._consumer.strategies
