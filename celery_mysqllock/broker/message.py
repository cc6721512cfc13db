"""The contents of a row's message column: kombu's payload as JSON, or any program's text."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from kombu.utils.json import JSONEncoder, object_hook

from celery_mysqllock.broker.envelope import (
    check_body,
    check_envelope,
    check_task,
    check_task_fields,
    read_time,
)
from celery_mysqllock.broker.row import LAST_MOMENT, Row, row_id
from celery_mysqllock.broker.signature import check_arguments
from celery_mysqllock.exceptions import InvalidJob, SettingsError
from celery_mysqllock.jobs import Destination, OrderKey, UniqueKey

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celery_mysqllock.jobs import ClaimedJob

Payload = dict[str, Any]

# The largest value of the column order_limit.
_MOST_AT_ONCE = 65_535
_JSON, _TEXT, _BASE64 = "json", "text", "base64"
# kombu's encoder: dates, numbers, bytes and ids in headers and properties keep their types
_encode = JSONEncoder(ensure_ascii=False).encode
_SURROGATE = re.compile("[\ud800-\udfff]")
_ENVELOPE = frozenset({"body", "headers", "properties"})
# The keys in the body of a task of Celery's protocol 1: both of these, and one of the others.
_OLD, _ARGUMENTS = frozenset({"task", "id"}), frozenset({"args", "kwargs"})
# A task is delivered up to so many seconds before its time: Celery's timer waits for the rest, and
# clocks differ.
_NEARLY_DUE = 5.0


def write(payload: Payload) -> str:
    """Turn a kombu payload into a row's text.

    A JSON body is kept as JSON, so that ``JSON_EXTRACT(message, '$.body[0]')`` gives a task's
    arguments; other text is kept as a string, and only binary bodies become base64.
    """
    properties = {**payload["properties"]}
    for transient in ("delivery_tag", "body_encoding"):
        properties.pop(transient, None)
    body, encoding = _write_body(payload)
    text = _encoded({**payload, "properties": properties, "body": body, "body-encoding": encoding})
    # half of a pair of surrogates stands as JSON spells it, for no server stores it as it is
    return text if text.isascii() else _SURROGATE.sub(_spelled, text)


def check_sendable(payload: Payload) -> None:
    """Do nothing when ``read`` will take what ``write`` makes of this; a body is not looked into.

    Raises:
        InvalidJob: It would not; says why.
    """
    # as it arrives: ids and lazy strings are text then
    text = _encoded({**payload, "body": "", "body-encoding": _TEXT})
    content = _read_envelope(json.loads(text), text)
    if "task" in content["headers"]:
        check_task(content["headers"], str)
    elif (fields := _old_task(payload)) is not None:
        check_task_fields(fields)


def is_task(payload: Payload) -> bool:
    """Whether the message is a task, in either of Celery's protocols; or else control traffic."""
    return "task" in (payload["headers"] or {}) or _old_task(payload) is not None


def task_name(payload: Payload) -> object:
    """What the message calls its task, in either of Celery's protocols; None when it is none."""
    if "task" in payload["headers"]:
        return payload["headers"]["task"]
    return (_old_task(payload) or {}).get("task")


def _old_task(payload: Payload) -> dict[str, Any] | None:
    """The body of a task of Celery's protocol 1, which has it all; None when it is none."""
    body = payload["body"]
    if payload.get("content-type") != "application/json" or '"task"' not in str(body):
        return None
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) and content.keys() >= _OLD else None


def _encoded(content: Payload) -> str:
    try:
        text: str = _encode(content)
    except TypeError:
        # Signals of Celery hand on the signal itself as a property; AMQP sends those that it knows
        text = _encode({**content, "properties": _encodable(content["properties"])})
    return text


def _encodable(properties: Payload) -> Payload:
    """The properties that can be sent."""
    found = {}
    for name, value in properties.items():
        with contextlib.suppress(TypeError):
            _encode(value)
            found[name] = value
    return found


def _spelled(surrogate: re.Match[str]) -> str:
    return f"\\u{ord(surrogate[0]):04x}"


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
        except (ValueError, RecursionError):
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
) -> Payload | Destination:
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
    text = _text_of(job.message)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(text_task, (str, type(None))):
        text_task = text_task.get(job.queue)
    if isinstance(content, dict) and content.keys() >= _ENVELOPE:
        body = content["body"]
        payload = _read_envelope(content, text)
        if destination := _check_task(payload, job, source) or _wait_of_old(body, job):
            return destination
    elif isinstance(content, dict) and "task" in content:
        row = Row.read(content, job.created_at)
        if destination := row.destination(job):
            return destination
        check_arguments(row)
        payload = row.payload(job, source)
    elif text_task:
        payload = Row(text_task, [text]).payload(job, source)
    else:
        raise InvalidJob(
            "The message is no JSON object with a 'task' in it, and text_task in "
            f"broker_transport_options names no task for plain text in queue {job.queue!r}."
        )
    _stamp(payload, job)
    return payload


def _text_of(message: str | bytes) -> str:
    """The message of a table whose column may be one of bytes."""
    if isinstance(message, str):
        return message
    try:
        return message.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidJob(f"The message is neither text nor JSON: {error}.") from error


def _read_envelope(content: Payload, text: str) -> Payload:
    encoding, body = content.pop("body-encoding", _TEXT), content["body"]
    if '"__type__"' in text:
        for part in ("headers", "properties"):
            content[part] = _revived(part, content[part])
    check_envelope(content)
    try:
        if encoding == _JSON:
            if "task" in content["headers"]:
                check_body(body)
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


def _revived(part: str, values: object) -> Any:  # noqa: ANN401 - whatever was sent
    """Values as they were before kombu's encoder spelled them as JSON."""
    try:
        return json.loads(json.dumps(values), object_hook=object_hook)
    except Exception as error:  # kombu's decoders raise anything
        raise InvalidJob(
            f"The message's {part} cannot be decoded: {type(error).__name__}: {error}."
        ) from error


def _check_task(payload: Payload, job: ClaimedJob, source: str) -> Destination | None:
    """Refuse a task's message that would end the worker; where it belongs when it is not due."""
    headers = payload["headers"]
    if "task" not in headers:
        return None
    check_task(headers, lambda: job.task_id or row_id(job.id, job.created_at, source))
    return None if headers.get("eta") is None else _wait(headers["eta"], job)


def _wait_of_old(body: object, job: ClaimedJob) -> Destination | None:
    """Where a task of Celery's protocol 1 belongs, whose body has it all, when it is not due."""
    if not isinstance(body, dict) or body.get("eta") is None:
        return None
    if not (body.keys() >= _OLD and body.keys() & _ARGUMENTS):
        return None
    with contextlib.suppress(InvalidJob):
        # a time that is none is refused where it is known whether this is a task
        return _wait(body["eta"], job)
    return None


def _wait(eta: object, job: ClaimedJob) -> Destination | None:
    delay = (min(read_time("eta", eta), LAST_MOMENT) - _now()).total_seconds()
    is_due = delay <= _NEARLY_DUE or job.has_expired
    return None if is_due else Destination(job.queue, delay=delay)


def mark_as_expired(payload: Payload) -> bool:
    """Have a worker find the task expired, although its clock may differ from the server's.

    Returns:
        Whether it is a task with an end.
    """
    headers = payload["headers"]
    if "task" not in headers or headers.get("expires") is None:
        return False
    if read_time("expires", headers["expires"]) > _now():
        headers["expires"] = _now().isoformat()
    return True


def read_ephemeral(text: str, queue: str) -> Payload:
    """Turn the text of an ephemeral message, which ``write`` made, into a kombu payload.

    Raises:
        InvalidJob: It is none.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or not content.keys() >= _ENVELOPE:
        raise InvalidJob("It is no JSON object with body, headers and properties.")
    payload = _read_envelope(content, text)
    payload["properties"]["delivery_tag"] = str(uuid.uuid4())
    payload["properties"].setdefault("delivery_info", {})["queue"] = queue
    return payload


def _stamp(payload: Payload, job: ClaimedJob) -> None:
    info = payload["properties"].setdefault("delivery_info", {})
    info.setdefault("exchange", "")
    info.setdefault("routing_key", job.queue)
    info["redelivered"] = job.is_redelivered
    info["delivery_count"] = job.deliveries
    payload["properties"]["delivery_tag"] = job.id


def lifetime(message: Payload, queue_ttl: float | None) -> float | None:
    """Seconds after which the message is not worth delivering, None for never."""
    expiration = message["properties"].get("expiration")
    own = None if expiration is None else int(expiration) / 1000
    least = min((limit for limit in (own, queue_ttl) if limit is not None), default=None)
    # the server's time ends with the year 9999
    return None if least is None or least > (LAST_MOMENT - _now()).total_seconds() else least


def delay(message: Payload) -> float | None:
    """Seconds until the task is due, None for now. A time without a zone is UTC, as in Celery."""
    eta = message["headers"].get("eta")
    if not eta:
        return None
    try:
        due = datetime.fromisoformat(str(eta))
    except ValueError:
        # The worker says what is wrong with it.
        return None
    if due.tzinfo is None:
        due = due.replace(tzinfo=UTC)
    delay = min(due, LAST_MOMENT).timestamp() - time.time()
    return delay if delay > 0 else None


def _now() -> datetime:
    return datetime.now(UTC)


def task_id(message: Payload) -> str | None:
    """The id of the task that the message is for, None when it is for none."""
    found = message["headers"].get("id")
    return str(found) if isinstance(found, (str, uuid.UUID)) else None


def unique(message: Payload) -> UniqueKey | None:
    """What makes the job the only one, None for nothing: the property ``unique_key``."""
    key = message["properties"].get("unique_key")
    if not key:
        return None
    return UniqueKey(str(key), must_store=bool(message["properties"].get("must_store")))


def order(message: Payload) -> OrderKey | None:
    """The line in which the job waits for its turn, None for none: the property ``order_key``.

    Raises:
        SettingsError: The property ``order_limit`` is no whole number from 1 to 65535.
    """
    properties = message["properties"]
    key, limit = properties.get("order_key"), properties.get("order_limit", 1)
    if not key:
        return None
    if not isinstance(limit, int) or not 1 <= limit <= _MOST_AT_ONCE:
        raise SettingsError(
            f"order_limit={limit!r} is not allowed; it takes a whole number from 1 to "
            f"{_MOST_AT_ONCE}."
        )
    return OrderKey(str(key), limit)
