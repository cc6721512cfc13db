"""Shows a channel the worker that it delivers to: what that runs, and which tasks it has."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from celery import bootsteps
from celery.worker.request import Request

from celery_mysqllock.broker import Transport
from celery_mysqllock.broker.channel import Channel
from celery_mysqllock.worker.replaced import replace
from celery_mysqllock.worker.state import busy_with, running_tags

if TYPE_CHECKING:
    from collections.abc import Callable

    from kombu.asynchronous.hub import Hub

# Seconds between two looks for ended tasks in pools without an event loop.
_POLL = 0.1


def install(controller: Any) -> None:
    """Add the step to a worker that is about to start.

    Celery tells that the pool has accepted a task by a signal of the process that runs it. In the
    worker's main process only ``Request.on_accepted`` has the message at hand.
    """
    controller.app.steps["consumer"].add(ServeChannel)
    replace(Request, "on_accepted", _note_beginning)


def _note_beginning(on_accepted: Callable[..., Any]) -> Callable[..., Any]:
    def note(request: Any, *args: Any, **kwargs: Any) -> Any:
        channel = request.message.channel
        if isinstance(channel, Channel) and isinstance(request.message.delivery_tag, int):
            channel.note_beginning(request.message.delivery_tag)
        return on_accepted(request, *args, **kwargs)

    return note


class ServeChannel(bootsteps.StartStopStep):
    """Shows the worker to the channel of its task consumer, before that consumes.

    With ``worker_disable_prefetch`` the channel claims no more than the pool has room for. Celery
    does that for Redis alone, and warns all others that it ignores the setting.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **kwargs: Any) -> None:
        super().__init__(consumer, **kwargs)
        self._channel: Channel | None = None
        self._polls = False
        # Celery 5.5 does not know the setting
        self._bounds = bool(consumer.app.conf.get("worker_disable_prefetch"))
        if self._bounds and _consumes_from_us(consumer.app):
            logging.getLogger("celery.worker.consumer.tasks").addFilter(_is_true)

    def start(self, consumer: Any) -> None:
        """Serve the channel of this connection."""
        channel = consumer.task_consumer.channel
        if not isinstance(channel, Channel):
            return
        worker = ChannelWorker(consumer, channel)
        channel.serve(worker)
        if self._bounds:
            self._channel = channel
            channel.qos.bound(worker.slots)
            if consumer.hub is None and not self._polls:
                self._polls = True
                consumer.timer.call_repeatedly(_POLL, self._resize)

    def register_with_event_loop(self, _consumer: Any, hub: Hub) -> None:
        """Look at each turn of the event loop: there is one when a task ends."""
        if self._bounds:
            hub.on_tick.add(self._resize)

    def _resize(self) -> None:
        if self._channel is not None:
            self._channel.qos.resize()


class ChannelWorker:
    """Implements ``broker.worker.Worker`` for one channel.

    Args:
        consumer: Celery's consumer.
        channel: The channel that it consumes tasks from.
    """

    def __init__(self, consumer: Any, channel: Channel) -> None:
        self._consumer = consumer
        self._channel = channel

    def slots(self) -> int:
        """What the pool could run at once, less what it runs from elsewhere."""
        controller, pool = self._consumer.controller, self._consumer.pool
        most = int(getattr(controller, "max_concurrency", None) or pool.num_processes or 1)
        return max(0, most - busy_with(self._channel, self._channel.qos.unacked))

    def knows(self, task: str) -> bool:
        """Whether the task is registered."""
        return task in self._consumer.strategies

    def running(self) -> set[int]:
        """See ``state.running_tags``."""
        return running_tags(self._channel)


def _consumes_from_us(app: Any) -> bool:
    return issubclass(app.connection_for_read().get_transport_cls(), Transport)


def _is_true(record: logging.LogRecord) -> bool:
    return "worker_disable_prefetch is only supported for Redis" not in record.getMessage()
