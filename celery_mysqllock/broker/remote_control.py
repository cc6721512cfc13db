"""Keeps gevent and eventlet workers from going deaf: no remote control is a lost connection.

In these pools Celery reads remote control commands in a greenlet, on a connection of its own. When
that is lost the greenlet ends, and nobody starts it again; the worker lives on and answers nobody.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from celery.signals import worker_init
from kombu.log import get_logger

from celery_mysqllock.broker.transport import Transport
from celery_mysqllock.exceptions import ConnectionLost

if TYPE_CHECKING:
    from collections.abc import Callable

logger = get_logger(__name__)


@worker_init.connect(weak=False)
def watch_remote_control(**_: object) -> None:
    """Have the greenlet of a worker that is about to start report its end."""
    from celery.worker.pidbox import gPidbox  # noqa: PLC0415 - for workers only

    if not hasattr(gPidbox.loop, "__wrapped__"):
        gPidbox.loop = _watched(gPidbox.loop)


def _watched(loop: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(loop)
    def watch(pidbox: Any, consumer: Any) -> Any:  # noqa: ANN401 - Celery's
        try:
            return loop(pidbox, consumer)
        except Exception as error:
            transport = consumer.connection and consumer.connection.transport
            if not isinstance(transport, Transport):
                raise
            logger.warning("Remote control has ended, the worker connects again: %s", error)
            # Celery starts it anew with the connection.
            transport.lose(ConnectionLost(f"Remote control has ended: {error}"))
            return None

    return watch
