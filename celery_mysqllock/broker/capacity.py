"""Lets a worker with ``worker_disable_prefetch`` claim no more than its pool can run at once.

Celery does that for Redis alone, and tells all others that it ignores the setting.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from celery import bootsteps
from celery.signals import worker_init

from celery_mysqllock.broker.transport import Transport

if TYPE_CHECKING:
    from kombu.asynchronous.hub import Hub

    from celery_mysqllock.broker.prefetch import Prefetch

# Seconds between two looks for tasks that have ended, where no event loop turns at each end.
_LOOK = 0.1


@worker_init.connect(weak=False)
def add_capacity(sender: Any, **_: Any) -> None:  # noqa: ANN401 - a signal's
    """Give the consumer of a worker that is about to start the step below."""
    sender.app.steps["consumer"].add(Capacity)


class Capacity(bootsteps.StartStopStep):
    """Bounds the prefetch window of the consumer's channel by what is free in its pool."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Celery's
        super().__init__(consumer, **kwargs)
        self._consumer = consumer
        self._qos: Prefetch | None = None
        self._looks = False

    def include_if(self, consumer: Any) -> bool:  # noqa: ANN401 - Celery's
        """Whether the setting is on and the broker this one."""
        # Celery 5.5 does not know it
        if not consumer.app.conf.get("worker_disable_prefetch"):
            return False
        with consumer.app.connection_for_read() as connection:
            is_ours = isinstance(connection.transport, Transport)
        if is_ours:
            logging.getLogger("celery.worker.consumer.tasks").addFilter(_is_true)
        return is_ours

    def start(self, consumer: Any) -> None:  # noqa: ANN401 - Celery's
        """Bound the channel of this connection."""
        self._qos = consumer.task_consumer.channel.qos
        self._qos.bound(self._limit)
        if consumer.hub is None and not self._looks:
            self._looks = True
            consumer.timer.call_repeatedly(_LOOK, self._look)

    def register_with_event_loop(self, _consumer: Any, hub: Hub) -> None:  # noqa: ANN401 - Celery's
        """Look at each turn: one comes when a task ends."""
        hub.on_tick.add(self._look)

    def _limit(self) -> int:
        controller, pool = self._consumer.controller, self._consumer.pool
        return int(getattr(controller, "max_concurrency", None) or pool.num_processes)

    def _look(self) -> None:
        if self._qos is not None:
            self._qos.resize()


def _is_true(record: logging.LogRecord) -> bool:
    return "worker_disable_prefetch is only supported for Redis" not in record.getMessage()
