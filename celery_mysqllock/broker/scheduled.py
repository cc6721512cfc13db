"""Adds what waits in the table to the answer of ``celery inspect scheduled``.

Celery's workers hold tasks with an ETA and show what they hold. Here the table holds them, and each
worker shows those of its queues that are due next.
"""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

from celery.signals import worker_init
from kombu.log import get_logger

from celery_mysqllock.broker.row import row_id
from celery_mysqllock.broker.transport import Transport
from celery_mysqllock.exceptions import MySQLLockError
from celery_mysqllock.jobs import Inspection

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_mysqllock.jobs import ScheduledJob

logger = get_logger(__name__)

# Jobs that a worker shows, and the characters of their messages: the answer is a message itself.
_MOST, _CHARACTERS = 500, 1_000_000
# As Celery shows them: the order in its timer.
_PRIORITY = 6


@worker_init.connect(weak=False)
def show_what_waits(**_: object) -> None:
    """Have the worker answer more, for which Celery has no signal."""
    from celery.worker.control import Panel  # noqa: PLC0415 - for workers only, and slow to import

    commands: dict[str, Callable[..., Any]] = Panel.data
    for name in ("scheduled", "dump_schedule"):
        celerys = commands.get(name)
        if celerys is not None and not hasattr(celerys, "shows_table"):
            commands[name] = _with_table(celerys)


def _with_table(celerys: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(celerys)
    def scheduled(state: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - Celery's
        return [*celerys(state, **kwargs), *_waiting(state.consumer)]

    scheduled.shows_table = True  # type: ignore[attr-defined]
    return scheduled


def _waiting(consumer: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - Celery's
    transport = consumer.connection and consumer.connection.transport
    if not isinstance(transport, Transport) or not consumer.task_consumer:
        return []
    sessions = transport.sessions
    inspection = Inspection(sessions.main, transport.settings.table, names=sessions.names)
    try:
        jobs = inspection.next_due([one.name for one in consumer.task_consumer.queues], _MOST)
    except MySQLLockError as error:
        logger.warning("What is scheduled in the table cannot be shown: %s", error)
        return []
    shown, characters = [], 0
    for job in jobs:
        characters += len(job.message or "")
        if characters > _CHARACTERS:
            break
        shown.append(_shown(job, str(consumer.hostname), transport.source))
    return shown


def _shown(job: ScheduledJob, hostname: str, source: str) -> dict[str, Any]:
    """A job as Celery shows a request."""
    task, task_id, eta, args, kwargs = _parts(job.message)
    return {
        "eta": eta or job.due_at.isoformat(),
        "priority": _PRIORITY,
        "request": {
            "id": task_id or job.task_id or row_id(job.id, job.created_at, source),
            "name": task,
            "args": args,
            "kwargs": kwargs,
            "type": task,
            "hostname": hostname,
            "time_start": None,
            "acknowledged": False,
            "delivery_info": {
                "exchange": "",
                "routing_key": job.queue,
                "priority": job.priority,
                "redelivered": False,
            },
            "worker_pid": None,
        },
    }


def _parts(message: str | None) -> tuple[Any, ...]:
    """Task, id, ETA, arguments and arguments by name, as far as the message tells."""
    try:
        content = json.loads(message or "")
        # what nests too deeply to be sent on is not shown
        json.dumps([[[content]]])
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        return None, None, None, None, None
    headers, body = content.get("headers"), content.get("body")
    if not isinstance(headers, dict):
        return tuple(content.get(name) for name in ("task", "id", "eta", "args", "kwargs"))
    args, kwargs = headers.get("argsrepr"), headers.get("kwargsrepr")
    if isinstance(body, list) and len(body) >= len(("args", "kwargs")):
        args, kwargs, *_ = body
    return headers.get("task"), headers.get("id"), headers.get("eta"), args, kwargs
