"""The name of the Celery node that this process is, so that people know which consumer is whose."""

from __future__ import annotations

from typing import Any

from celery.signals import worker_init
from celery.utils.log import get_logger

from celery_mysqllock.mysql import storable

logger = get_logger(__name__)

_names: list[str] = []


@worker_init.connect(weak=False)
def remember_name(sender: Any, **_: Any) -> None:  # noqa: ANN401 - a signal's
    """A worker is about to start in this process.

    Its queue for remote control is called after it, and a server could not store a half character.
    """
    name = str(sender.hostname)
    sender.hostname = storable(name)
    if sender.hostname != name:
        logger.warning("The node's name is no UTF-8, so it is called %s.", sender.hostname)
    _names[:] = [sender.hostname]


def node_name() -> str | None:
    """The worker's name, such as ``celery@host``; None in a process that is none."""
    return _names[-1] if _names else None
