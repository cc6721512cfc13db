"""What stands in a row's message: kombu's payload as readable JSON, or what any program wrote."""

from __future__ import annotations

import base64
import json
import time
import uuid
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from celery_mysqllock.broker.arguments import check_arguments
from celery_mysqllock.broker.row import Row, row_id
from celery_mysqllock.exceptions import InvalidJob
from celery_mysqllock.jobs import OrderKey, UniqueKey

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celery_mysqllock.jobs import ClaimedJob, Placement

Payload = dict[str, Any]

_JSON, _TEXT, _BASE64 = "json", "text", "base64"
_write_json = json.JSONEncoder(ensure_ascii=False).encode
_ENVELOPE = frozenset({"body", "headers", "properties"})
# args, kwargs, and options such as a chain
_BODY: tuple[tuple[type, ...], ...] = ((list,), (dict,), (dict, type(None)))


def write(payload: Payload) -> str:
    """Turn a kombu payload into a row's text.

    A JSON body stands in it as JSON, so that ``JSON_EXTRACT(message, '$.body[0]')`` gives a
    task's arguments; other text stands as a string, and only what is binary becomes base64.
    """
    properties = {**payload["properties"]}
    for transient in ("delivery_tag", "body_encoding"):
        properties.pop(transient, None)
    body, encoding = _write_body(payload)
    return _write_json(
        {**payload, "properties": properties, "body": body, "body-encoding": encoding}
    )


def _write_body(payload: Payload) -> tuple[Any, str]:
    body = payload["body"]
    if isinstance(body, (bytes, bytearray, memoryview)):
        # kombu has encoded the text of a given content type before it gets here
        text = _decoded(bytes(body)) if _is_text(payload) else None
        if text is None:
            return base64.b64encode(body).decode("ascii"), _BASE64
        body = text
    if payload.get("content-type") == "application/json":
        try:
            return json.loads(body), _JSON
        except ValueError:
            # A publisher may call anything JSON; it arrives as it was sent.
            return body, _TEXT
    return body, _TEXT


def _decoded(body: bytes) -> str | None:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _is_text(payload: Payload) -> bool:
    return str(payload.get("content-encoding")).lower() in ("utf-8", "us-ascii")


def read(
    job: ClaimedJob, source: str, text_task: str | Mapping[str, str] | None
) -> Payload | Placement:
    """Turn a claimed row into a kombu payload.

    The row holds what ``write`` made; or a JSON object with a "task" (see ``Row``); or any text,
    which becomes the only argument of ``text_task``.

    Args:
        job: The claimed job.
        source: ``<database>.<table>``, a part of the task id of rows that carry none.
        text_task: The task for plain text, or that of each queue; None for none.

    Returns:
        The payload; or where else the row belongs, now or later.

    Raises:
        InvalidJob: It is none of these; the message is the reason to keep the job as dead with.
    """
    if job.message is None:
        raise InvalidJob("The message is NULL.")
    try:
        content = json.loads(job.message)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(text_task, (str, type(None))):
        text_task = text_task.get(job.queue)
    if isinstance(content, dict) and content.keys() >= _ENVELOPE:
        payload = _read_envelope(content)
        _check_task(payload, job, source)
    elif isinstance(content, dict) and "task" in content:
        row = Row.read(content, job.created_at)
        if placement := row.placement(job):
            return placement
        check_arguments(row)
        payload = row.payload(job, source)
    elif text_task:
        payload = Row(text_task, [job.message]).payload(job, source)
    else:
        raise InvalidJob(
            "The message is no JSON object with a 'task' in it, and text_task in "
            f"broker_transport_options names no task for plain text in queue {job.queue!r}."
        )
    _stamp(payload, job)
    return payload


def _read_envelope(content: Payload) -> Payload:
    encoding, body = content.pop("body-encoding", _TEXT), content["body"]
    headers, properties = content["headers"], content["properties"]
    if not isinstance(headers, dict) or not isinstance(properties, dict):
        raise InvalidJob("The message's headers and properties must be JSON objects.")
    if not isinstance(properties.get("delivery_info", {}), dict):
        raise InvalidJob("The message's delivery_info must be a JSON object.")
    try:
        if encoding == _JSON:
            if "task" in headers and not _is_tasks(body):
                raise InvalidJob("The message's body must be [args, kwargs, options], as a task's.")
            content["body"] = json.dumps(body)
        elif encoding == _BASE64:
            content["body"] = base64.b64decode(body, validate=True)
        elif encoding != _TEXT:
            raise InvalidJob(
                f"The message's body-encoding is {encoding!r}; it takes "
                f"{_JSON}, {_TEXT} and {_BASE64}."
            )
        elif not isinstance(body, str):
            raise InvalidJob("The message's body is no text, as its body-encoding says.")
    except (TypeError, ValueError) as error:
        raise InvalidJob(f"The message's body is no {encoding}: {error}.") from error
    return content


def _check_task(payload: Payload, job: ClaimedJob, source: str) -> None:
    """Refuse a task's message that would end the worker, and give it an id where it has none."""
    headers = payload["headers"]
    if "task" not in headers:
        return
    if not isinstance(headers["task"], str):
        raise InvalidJob(
            f"The header 'task' is {json.dumps(headers['task'])}; it must be a string."
        )
    limits = headers.get("timelimit")
    if limits is not None and not (
        isinstance(limits, list) and len(limits) == len(("hard", "soft"))
    ):
        raise InvalidJob(f"The header 'timelimit' is {json.dumps(limits)}; it must be two numbers.")
    headers.setdefault("id", job.task_id or row_id(job.id, job.created_at, source))


def _is_tasks(body: object) -> bool:
    """Whether this is a task's body: of Celery's protocol 2, or an object as in protocol 1."""
    if isinstance(body, list) and len(body) == len(_BODY):
        return all(isinstance(part, kind) for part, kind in zip(body, _BODY, strict=True))
    return isinstance(body, dict)


def read_ephemeral(text: str, queue: str) -> Payload:
    """Turn the text of an ephemeral message, which ``write`` made, into a kombu payload."""
    payload = _read_envelope(json.loads(text))
    payload["properties"]["delivery_tag"] = str(uuid.uuid4())
    payload["properties"].setdefault("delivery_info", {})["queue"] = queue
    return payload


def _stamp(payload: Payload, job: ClaimedJob) -> None:
    info = payload["properties"].setdefault("delivery_info", {})
    info.setdefault("exchange", "")
    info.setdefault("routing_key", job.queue)
    info["redelivered"] = job.deliveries > 0
    info["delivery_count"] = job.deliveries
    payload["properties"]["delivery_tag"] = job.id


def lifetime(message: Payload, queue_ttl: float | None) -> float | None:
    """Seconds after which the message is not worth delivering, None for never."""
    expiration = message["properties"].get("expiration")
    own = None if expiration is None else int(expiration) / 1000
    return min((limit for limit in (own, queue_ttl) if limit is not None), default=None)


def delay(message: Payload) -> float | None:
    """Seconds until the task is due, None for now. A time without a zone is UTC, as in Celery."""
    eta = message["headers"].get("eta")
    if not eta:
        return None
    try:
        due = datetime.fromisoformat(str(eta).replace("Z", "+00:00"))
    except ValueError:
        # The worker says what is wrong with it.
        return None
    if due.tzinfo is None:
        due = due.replace(tzinfo=timezone.utc)
    delay = due.timestamp() - time.time()
    return delay if delay > 0 else None


def task_id(message: Payload) -> str | None:
    """The id of the task that the message is for, None when it is for none."""
    found = message["headers"].get("id")
    return found if isinstance(found, str) else None


def unique(message: Payload) -> UniqueKey | None:
    """What makes the job the only one, None for nothing: the property ``unique_key``."""
    key = message["properties"].get("unique_key")
    if not key:
        return None
    return UniqueKey(str(key), must_store=bool(message["properties"].get("must_store")))


def order(message: Payload) -> OrderKey | None:
    """The line in which the job waits for its turn, None for none: the property ``order_key``."""
    properties = message["properties"]
    key = properties.get("order_key")
    return OrderKey(str(key), int(properties.get("order_limit", 1))) if key else None
