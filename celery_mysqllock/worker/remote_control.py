"""Changes what remote control does in a worker that consumes from the job table.

- ``revoke`` frees the unique keys of the revoked jobs. A worker drops a revoked task when it is
  delivered, which for a scheduled one may be in a month. Until then calls with the same key would
  get the result of a task that never runs.
- ``inspect scheduled`` shows what is scheduled in the table. Celery's workers hold tasks with an
  ETA and show those. Here the table holds them, and each worker shows the next of its queues.
- ``inspect stats`` shows no password. Celery before 5.7 hides that of the first URL only.
- mingle, with which a worker that starts asks the others what has been revoked, is allowed.
- The end of remote control in gevent and eventlet workers is a lost connection.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from celery.utils.functional import maybe_list
from celery.worker.consumer.connection import Connection
from celery.worker.consumer.mingle import Mingle
from celery.worker.control import Panel
from celery.worker.pidbox import gPidbox
from kombu.log import get_logger

from celery_mysqllock.broker import Transport
from celery_mysqllock.broker.row import row_id
from celery_mysqllock.exceptions import ConnectionLost, MySQLLockError
from celery_mysqllock.jobs import Inspection
from celery_mysqllock.redaction import hide_passwords
from celery_mysqllock.worker.replaced import replace, replace_item

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_mysqllock.jobs import ScheduledJob

logger = get_logger(__name__)

# Most jobs that a worker shows, and most characters of their messages: the answer is a message.
_MOST, _CHARACTERS = 500, 1_000_000
# The order in Celery's timer, which Celery shows as a priority.
_PRIORITY = 6


def install(_controller: Any) -> None:
    """Extend the commands of the worker that is about to start. Celery has no signals for them."""
    # Celery lists the drivers that mingle. Gossip stays off: with it each worker stores a message
    # for each other one every two seconds, and Celery itself needs it for nothing.
    Mingle.compatible_transports = {*Mingle.compatible_transports, Transport.driver_type}
    replace(gPidbox, "loop", _watched)
    replace(Connection, "info", _without_passwords)
    replace_item(Panel.data, "revoke", _freeing_keys)
    replace_item(Panel.data, "scheduled", _with_table)
    replace_item(Panel.data, "dump_schedule", _with_table)


def _transport_of(consumer: Any) -> Transport | None:
    transport = consumer.connection and consumer.connection.transport
    return transport if isinstance(transport, Transport) else None


# -- remote control in pools of greenlets ---------------------------------------------------------


def _watched(loop: Callable[..., Any]) -> Callable[..., Any]:
    """Have the worker connect again when remote control has ended.

    In these pools a greenlet reads the commands, on a connection of its own. When that is lost the
    greenlet ends, and Celery does not start it again: the worker would go on and answer nothing.
    """

    def watch(pidbox: Any, consumer: Any) -> Any:
        try:
            return loop(pidbox, consumer)
        except Exception as error:
            transport = _transport_of(consumer)
            if transport is None:
                raise
            logger.warning("Remote control has ended, the worker connects again: %s", error)
            # Celery starts it anew with the connection.
            transport.dispatcher.lose(ConnectionLost(f"Remote control has ended: {error}"))
            return None

    return watch


# -- inspect stats ---------------------------------------------------------------------------------


def _without_passwords(info: Callable[..., Any]) -> Callable[..., Any]:
    def info_without_passwords(connection: Any, consumer: Any) -> Any:
        return hide_passwords(info(connection, consumer))

    return info_without_passwords


# -- revoke ---------------------------------------------------------------------------------------


def _freeing_keys(revoke: Callable[..., Any]) -> Callable[..., Any]:
    def revoke_and_free(state: Any, task_id: Any, *args: Any, **kwargs: Any) -> Any:
        answer = revoke(state, task_id, *args, **kwargs)
        _free_keys(state.consumer, [str(one) for one in maybe_list(task_id) or ()])
        return answer

    return revoke_and_free


def _free_keys(consumer: Any, task_ids: list[str]) -> None:
    if (transport := _transport_of(consumer)) is None:
        return
    try:
        transport.sessions.jobs.unique_keys.free_those_of(task_ids)
    except MySQLLockError as error:
        logger.warning("The unique keys of revoked jobs stay until they are dropped: %s", error)


# -- inspect scheduled ----------------------------------------------------------------------------


def _with_table(scheduled: Callable[..., Any]) -> Callable[..., Any]:
    def scheduled_and_table(state: Any, **kwargs: Any) -> Any:
        return [*scheduled(state, **kwargs), *_scheduled_in_table(state.consumer)]

    return scheduled_and_table


def _scheduled_in_table(consumer: Any) -> list[dict[str, Any]]:
    transport = _transport_of(consumer)
    if transport is None or not consumer.task_consumer:
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
        shown.append(_shown(job, str(consumer.hostname), sessions.source))
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
    """Task, id, ETA, args and kwargs; None for what the message does not tell."""
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
