"""Frees the unique keys of revoked jobs at once, and not when a worker drops them.

A worker drops a revoked task when it is delivered, which for a scheduled one may be in a month.
Until then calls with the same key would get the result of a task that never runs.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from celery.signals import worker_init
from celery.utils.functional import maybe_list
from kombu.log import get_logger

from celery_mysqllock.broker.transport import Transport
from celery_mysqllock.exceptions import MySQLLockError

if TYPE_CHECKING:
    from collections.abc import Callable

logger = get_logger(__name__)

_COMMAND = "revoke"


@worker_init.connect(weak=False)
def listen_to_revoke(**_: object) -> None:
    """Have the worker do more on the remote control command, for which Celery has no signal."""
    from celery.worker.control import Panel  # noqa: PLC0415 - for workers only, and slow to import

    celerys = Panel.data[_COMMAND]
    if getattr(celerys, "frees_keys", False):
        return

    @functools.wraps(celerys)
    def revoke(state: Any, task_id: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - Celery's
        answer = celerys(state, task_id, *args, **kwargs)
        _free_keys(state.consumer, [str(one) for one in maybe_list(task_id) or ()])
        return answer

    revoke.frees_keys = True  # type: ignore[attr-defined]
    commands: dict[str, Callable[..., Any]] = Panel.data
    commands[_COMMAND] = revoke


def _free_keys(consumer: Any, task_ids: list[str]) -> None:  # noqa: ANN401 - Celery's
    transport = consumer.connection and consumer.connection.transport
    if not isinstance(transport, Transport):
        return
    try:
        transport.jobs.free_unique_keys(task_ids)
    except MySQLLockError as error:
        logger.warning("The unique keys of revoked jobs stay until they are dropped: %s", error)
