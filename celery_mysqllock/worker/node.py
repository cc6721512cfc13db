"""The node that this process is: its name, and whether it was asked to end."""

from __future__ import annotations

import threading
import time
from functools import cache
from typing import Any

from celery.utils.log import get_logger
from celery.worker import state

from celery_mysqllock.broker.worker import become
from celery_mysqllock.exceptions import MySQLLockError
from celery_mysqllock.mysql import storable

logger = get_logger(__name__)

# Seconds that a task of a worker which was asked to end has to find a server.
_GRACE = 10.0


def install(controller: Any) -> None:
    """Make this process the worker's node.

    Its remote control queue has its name in it, and a server cannot store half a character.
    """
    name = str(controller.hostname)
    controller.hostname = storable(name)
    if controller.hostname != name:
        logger.warning("The node's name is not valid UTF-8, so it becomes %s.", controller.hostname)
    become(WorkerNode(controller.hostname))


class WorkerNode:
    """Implements ``broker.worker.Node``.

    Args:
        name: Its node name.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def end_if_asked(self) -> None:
        """See ``broker.worker.Node``.

        Celery looks at each turn of its event loop. But a heartbeat that is published in the loop
        tries to connect for as long as no server answers. In pools of threads and greenlets, a
        thread sends the heartbeats, and the worker waits for it when it ends. Tasks that still
        run there get ten seconds.
        """
        if not _is_to_end():
            return
        if threading.current_thread() is threading.main_thread():
            state.maybe_shutdown()
        elif time.monotonic() - _seen_to_end() > _GRACE:
            raise MySQLLockError(
                "The worker ends and no server answers, so this is not tried again."
            )


def _is_to_end() -> bool:
    # each flag is an exit code, which may be 0
    flags = (state.should_stop, state.should_terminate)
    return any(flag is not None and flag is not False for flag in flags)


@cache
def _seen_to_end() -> float:
    """When this process was first seen to be about to end."""
    return time.monotonic()
