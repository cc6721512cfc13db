"""Checks the types of messages as Celery writes them, part by part.

Any program can INSERT a row that looks like one. Celery trusts its messages: a field of a wrong
type ends the worker, or a thread of it, far from here. So a message that passes has the right
types, and any other is refused with a reason.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from celery.utils.time import maybe_iso8601

from celery_mysqllock.exceptions import InvalidJob
from celery_mysqllock.jobs.job import TASK_ID_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: Characters that the name of a task may have. Longer ones are none.
TASK_NAME_LIMIT = 1000
#: Seconds, ten years: a timer needs numbers that it can add.
LONGEST = 315_360_000
# args, kwargs, and options such as a chain
_BODY: tuple[tuple[type, ...], ...] = ((list, tuple), (dict,), (dict, type(None)))
_SURROGATE = re.compile("[\ud800-\udfff]")

Check = tuple["Callable[[Any], bool]", str]


def is_text(most: int | None = None, *, least: int = 1) -> Callable[[object], bool]:
    """A check for text that a server can store, of so many characters."""
    return lambda value: (
        isinstance(value, str)
        and least <= len(value)
        and (most is None or len(value) <= most)
        # half of a pair of \\ud83e\\udd80 is no character, and no server stores it
        and (value.isascii() or not _SURROGATE.search(value))
    )


def shown(value: object) -> str:
    """A value as it is shown in a reason: short, and nothing that a server could not store."""
    try:
        text = json.dumps(value, default=repr)
    except (TypeError, ValueError, RecursionError):
        text = f"a {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


_SHOWN = 200


def check_fields(kind: str, fields: Mapping[str, Any], checks: Mapping[str, Check]) -> None:
    """Do nothing when each of the fields that has a check, and is not null, passes it.

    Args:
        kind: What the fields are called in the reason.
        fields: The fields by name.
        checks: By name: whether a value is allowed, and what is.

    Raises:
        InvalidJob: One of them does not.
    """
    for name, (accepts, allowed) in checks.items():
        value = fields.get(name)
        if value is not None and not accepts(value):
            raise InvalidJob(f"The {kind} {name!r} is {shown(value)}; it must be {allowed}.")


def check_envelope(envelope: dict[str, Any]) -> None:
    """Do nothing when the parts of a message are of the right types; ids become text.

    Args:
        envelope: The message, but for its body.

    Raises:
        InvalidJob: One is not.
    """
    headers, properties = envelope["headers"], envelope["properties"]
    if not isinstance(headers, dict) or not isinstance(properties, dict):
        raise InvalidJob("The message's headers and properties must be JSON objects.")
    check_fields("field", envelope, _ENVELOPE)
    # kombu would decode by it what this package has read
    properties.pop("body_encoding", None)
    _spell_out(properties, "correlation_id", "reply_to")
    check_fields("property", properties, _PROPERTIES)
    properties["delivery_info"] = _delivery_info(properties.get("delivery_info"))
    check_fields("header", headers, _ANY_HEADERS)


def _delivery_info(info: object) -> dict[str, Any]:
    """What a message may say itself of its way."""
    if info is None:
        return {}
    if not isinstance(info, dict):
        raise InvalidJob(f"The message's delivery_info must be a JSON object; it is {shown(info)}.")
    check_fields("delivery_info's", info, _DELIVERY_INFO)
    return {name: info[name] for name in _DELIVERY_INFO if info.get(name) is not None}


def check_task(fields: dict[str, Any], task_id: Callable[[], str]) -> None:
    """Do nothing when these headers, or fields of a body of protocol 1, are a task's.

    Args:
        fields: They get an id when they have none.
        task_id: Gives an id for that.

    Raises:
        InvalidJob: They are not.
    """
    if not isinstance(fields["task"], str) or not fields["task"]:
        raise InvalidJob(f"The header 'task' is {shown(fields['task'])}; it must be a string.")
    check_task_fields(fields)
    fields["id"] = fields.get("id") or task_id()


def check_task_fields(fields: dict[str, Any]) -> None:
    """Do nothing when what these fields say of a task is of the right types; ids become text.

    Raises:
        InvalidJob: One is not.
    """
    _spell_out(fields, "id", "root_id", "parent_id", "group")
    check_fields("header", fields, _TASK_HEADERS)
    if fields.get("retries", 0) is None:
        fields["retries"] = 0
    for name in ("eta", "expires"):
        if fields.get(name) is not None:
            read_time(name, fields[name])


def _spell_out(fields: dict[str, Any], *names: str) -> None:
    """What is given as a UUID is sent as one, and used as text."""
    for name in names:
        if isinstance(fields.get(name), UUID):
            fields[name] = str(fields[name])


def read_time(name: str, value: object) -> datetime:
    """A time as Celery reads it, in UTC; one without a zone counts as UTC.

    Raises:
        InvalidJob: It is none.
    """
    try:
        found: datetime | None = maybe_iso8601(value)
        if found is not None:
            if found.tzinfo is None:
                found = found.replace(tzinfo=UTC)
            return found.astimezone(UTC)
    except (ValueError, TypeError, AttributeError, OverflowError):
        # there is no such day, or none in UTC
        pass
    label = name.upper() if name == "eta" else name
    raise InvalidJob(f"The header {name!r} is {shown(value)}; {label} must be a time in ISO 8601.")


def check_body(body: Any) -> None:  # noqa: ANN401 - whatever was sent
    """Do nothing when this is the body of a task: of Celery's protocol 2, or 1.

    Raises:
        InvalidJob: It is none.
    """
    if isinstance(body, dict):
        args, kwargs, options = body.get("args", ()), body.get("kwargs", {}), body
        is_one = "args" in body or "task" in body
    elif isinstance(body, (list, tuple)) and len(body) == len(_BODY):
        args, kwargs, options = body
        is_one = True
    else:
        args = kwargs = options = None
        is_one = False
    parts = zip((args, kwargs, options), _BODY, strict=True)
    if not is_one or not all(isinstance(part, kind) for part, kind in parts):
        raise InvalidJob("The message's body must be [args, kwargs, options], as a task's.")
    if options:
        check_fields("option", options, _OPTIONS)
    if isinstance(body, dict):
        # of protocol 1, or between the two: what headers do not say is taken from here
        check_task_fields(body)


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and abs(value) <= LONGEST  # type: ignore[arg-type]


def _is_whole(least: int, most: int) -> Callable[[object], bool]:
    return lambda value: type(value) is int and least <= value <= most


def _are_limits(value: object) -> bool:
    return (
        isinstance(value, (list, tuple))
        and len(value) == len(("hard", "soft"))
        and all(limit is None or _is_number(limit) for limit in value)
    )


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _is_signature(value: object) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("task"), str)
        and isinstance(value.get("args", ()), (list, tuple, type(None)))
        and isinstance(value.get("kwargs", {}), (dict, type(None)))
        and isinstance(value.get("options", {}), (dict, type(None)))
    )


def _are_signatures(value: object) -> bool:
    return isinstance(value, (list, tuple)) and all(map(_is_signature, value))


_STRING: Check = (lambda value: isinstance(value, str), "a string")
_NAME: Check = (is_text(TASK_ID_LIMIT, least=0), "a string of up to 255 characters")
_COUNT: Check = (_is_whole(0, 2**31), "a whole number of 0 or more")
_PRIORITY: Check = (_is_whole(0, 255), "a whole number from 0 to 255")
_FLAG: Check = (lambda value: isinstance(value, bool), "true or false")
_OBJECT: Check = (_is_object, "a JSON object")

_ENVELOPE: dict[str, Check] = {
    "content-type": (is_text(TASK_ID_LIMIT), "a string"),
    "content-encoding": (is_text(TASK_ID_LIMIT), "a string"),
}
_PROPERTIES: dict[str, Check] = {
    "reply_to": _NAME,
    "correlation_id": _NAME,
    "delivery_mode": (_is_whole(0, 255), "a whole number"),
    "priority": _PRIORITY,
}
_DELIVERY_INFO: dict[str, Check] = {
    "exchange": _NAME,
    "routing_key": _NAME,
    "priority": _PRIORITY,
}
_ANY_HEADERS: dict[str, Check] = {"compression": (is_text(TASK_ID_LIMIT, least=0), "a string")}
_TASK_HEADERS: dict[str, Check] = {
    "task": (is_text(TASK_NAME_LIMIT), f"a string of 1 to {TASK_NAME_LIMIT} characters"),
    "id": _NAME,
    "root_id": _NAME,
    "parent_id": _NAME,
    "group": _NAME,
    "group_index": _COUNT,
    "shadow": (is_text(TASK_NAME_LIMIT, least=0), f"a string of up to {TASK_NAME_LIMIT}"),
    "argsrepr": _STRING,
    "kwargsrepr": _STRING,
    "origin": _STRING,
    "retries": _COUNT,
    "timelimit": (_are_limits, "two numbers of seconds, either of which may be null"),
    "ignore_result": _FLAG,
    "replaced_task_nesting": _COUNT,
    "stamped_headers": (_are_texts, "a list of strings"),
    "stamps": _OBJECT,
    "groups": (lambda value: isinstance(value, list), "a list"),
}
_OPTIONS: dict[str, Check] = {
    "callbacks": (_are_signatures, "a list of signatures"),
    "errbacks": (_are_signatures, "a list of signatures"),
    "chain": (_are_signatures, "a list of signatures"),
    "chord": (_is_signature, "a signature"),
}
