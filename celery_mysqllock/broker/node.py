"""The name of the Celery node that this process is, so that people know which consumer is whose."""

from __future__ import annotations

from typing import Any

from celery.signals import worker_init

_names: list[str] = []


@worker_init.connect(weak=False)
def remember_name(sender: Any, **_: Any) -> None:  # noqa: ANN401 - a signal's
    """A worker is about to start in this process."""
    _names[:] = [str(sender.hostname)]


def node_name() -> str | None:
    """The worker's name, such as ``celery@host``; None in a process that is none."""
    return _names[-1] if _names else None
