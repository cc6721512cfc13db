"""What we know of Celery's worker: all that reaches into it is in this room.

kombu loads the transport from here, so that a process that is to be a worker is prepared before
the worker starts.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from celery.signals import worker_init
from celery.utils.log import get_logger

from celery_mysqllock.broker import Transport

__all__ = ["Transport", "prepare"]

logger = get_logger(__name__)

_PARTS = ("node", "step", "dead_reasons", "guard", "remote_control")


@worker_init.connect(weak=False)
def prepare(sender: Any, **_: Any) -> None:
    """Prepare the worker that is about to start in this process."""
    for part in _PARTS:
        try:
            # now: these import Celery's worker, which other programs do not need
            import_module(f"{__name__}.{part}").install(sender)
        except Exception:
            logger.exception(
                "The worker goes on without %s.%s: it does not fit this release of Celery.",
                __name__,
                part,
            )
