"""Which messages of a channel Celery's worker is executing, whatever becomes of the connection."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kombu.transport import virtual


def running_tags(channel: virtual.Channel) -> set[int]:
    """The delivery tags of the channel's messages whose tasks go on when it is closed.

    Celery drops the tasks that it has only reserved when it loses its connection, and lets those
    that run end. A pool of threads or greenlets cannot take back what it was given; prefork can
    (``Consumer.on_close`` flushes it).
    """
    state = sys.modules.get("celery.worker.state")
    if state is None:
        return set()
    going_on = set(state.active_requests)
    if "celery.concurrency.prefork" not in sys.modules:
        going_on |= {one for one in state.reserved_requests if _is_in_pool(one)}
    return {
        request.message.delivery_tag
        for request in going_on
        if request.message.channel is channel and isinstance(request.message.delivery_tag, int)
    }


def _is_in_pool(request: Any) -> bool:  # noqa: ANN401 - Celery's are untyped
    return request._apply_result is not None  # noqa: SLF001 - no public way
