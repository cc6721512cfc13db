"""Generates rows that anybody could INSERT: right ones, wrong ones, and nonsense."""

from __future__ import annotations

import base64
import bz2
import copy
import json
import random
import uuid
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

# ruff: noqa: PLR2004, ANN401 - chances, and values of any type, are what this is made of

_TASKS = ("ok", "late", "two", "boom")
_DATES = (
    *("2030-01-01T00:00:00+00:00", "9999-12-31T23:59:59", "9999-12-31T23:59:59.999999+00:00"),
    *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "2024-02-30", "2024-01-01"),
    *("1969-12-31T23:59:59Z", "2024-01-01T00:00:60", "tomorrow", "2024-W01-1", "20240101T000000"),
    *("2024-01-01T00:00:00", "2024-01-01 00:00:00 +01", "-0001-01-01", "2024-01-01T24:00:00"),
)
_TEXTS = (
    *("", " ", "x", "celery", "ok", "é" * 200, "x" * 256, "x" * 5000, "\ud83e", "a\udd80b", "🦀"),
    *("\0", "\n", "'; DROP TABLE jobs; --", "%s", "%(id)s", "{}", "None", "../../etc", "a/b"),
    *("application/json", "application/x-python-serialize", "application/data", "utf-8", "rot13"),
    *("binary", "json", "pickle", "yaml", "gzip", "zlib", "magic", "base64", "text"),
)
_NUMBERS = (
    *(0, -1, 1, 5, 255, 256, 2**31, 2**63, -(2**64), 10**400, 0.5, -0.0, 1e308, float("nan")),
    *(float("inf"), float("-inf")),
)
_DEPTHS = (10, 60, 200, 450, 600, 950, 2000)
_HEADERS = (
    *("task", "id", "root_id", "parent_id", "group", "group_index", "retries", "timelimit", "eta"),
    *("expires", "shadow", "argsrepr", "kwargsrepr", "origin", "ignore_result", "stamps", "lang"),
    *("stamped_headers", "replaced_task_nesting", "groups", "compression", "meth", "x-death"),
)
_PROPERTIES = (
    *("correlation_id", "reply_to", "delivery_mode", "delivery_info", "priority", "delivery_tag"),
    *("body_encoding", "expiration", "message_id", "unique_key", "order_key", "must_store"),
)
_FIELDS = ("task", "args", "kwargs", "id", "eta", "expires", "priority", "queue", "nope")
_QUEUES = ("celery ", "celery  ", "", " ", "elsewhere", "é", "q" * 255, "Celery", "x'y", "\0", "🦀")
_TIMES = (
    *("0000-00-00 00:00:00", "9999-12-31 23:59:59.999999", "1000-01-01 00:00:00"),
    *("2024-00-00 00:00:00", "2037-12-31 23:59:59", "1970-01-02 00:00:00", "2020-02-02 02:02:02"),
)
_COMMANDS = (
    *("add_consumer", "cancel_consumer", "rate_limit", "time_limit", "ping", "stats", "scheduled"),
    *(
        "active",
        "query_task",
        "conf",
        "hello",
        "clock",
        "registered",
        "report",
        "nonsense",
        "revoke",
    ),
    *(
        "enable_events",
        "disable_events",
        "heartbeat",
        "election",
        "reserved",
        "objgraph",
        "terminate",
    ),
)


@dataclass
class Row:
    """One row.

    Attributes:
        message: Its message.
        columns: Its other columns that are not left to their defaults.
        ids: Under which ids its task may run.
        is_right: Whether it has to run.
    """

    message: str
    columns: dict[str, Any] = field(default_factory=dict)
    ids: set[str] = field(default_factory=set)
    is_right: bool = False


class Rows:
    """An endless supply of rows, the same for the same seed.

    Args:
        seed: Of all that is random.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - no secret
        self._number = 0

    def next(self) -> Row:
        """The next row."""
        self._number += 1
        chance, number = self._random.random, self._number
        row = Row("", {"task_id": f"row-{number}"}, {f"row-{number}"})
        if chance() < 0.1:
            row.message = json.dumps({"task": self._pick(_TASKS[:2]), "args": [number]})
            row.is_right = True
            return row
        kind: Callable[[Row], str] = self._random.choices(
            (self._nonsense, self._row, self._envelope, self._packed, self._old),
            (15, 25, 45, 8, 7),
        )[0]
        row.message = kind(row)
        if chance() < 0.25:
            self._spoil_columns(row)
        return row

    def ephemeral(self) -> str:
        """The text of a message to a worker's control queue."""
        body = {
            "method": self._pick(_COMMANDS),
            "arguments": {
                self._pick(("queue", "exchange", "routing_key", "task_name", "hard", "rate_limit")):
                self._value()
                for _ in range(self._random.randrange(3))
            },
            "destination": self._pick((None, None, self._value())),
            "pattern": None,
            "matcher": None,
        }  # fmt: skip
        reply = {"exchange": "reply.fuzz", "routing_key": str(uuid.UUID(int=self._number))}
        body["reply_to"] = self._pick((None, reply, self._value()))
        message = self._good(f"control-{self._number}")
        message["headers"] = {"clock": 1, "expires": 0}
        message["body"] = body
        for _ in range(self._random.randrange(3)):
            self._spoil(message)
        text = _dumps(message)
        return text if self._random.random() < 0.7 else self._nonsense(Row(""))

    # -- messages ---------------------------------------------------------------------------------

    def _good(self, task_id: str) -> dict[str, Any]:
        return {
            "body": [[self._number], {}, {"callbacks": None, "errbacks": None, "chain": None}],
            "body-encoding": "json",
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": {
                "lang": "py",
                "task": self._pick(_TASKS),
                "id": task_id,
                "root_id": task_id,
                "retries": 0,
                "timelimit": [None, None],
                "eta": None,
                "expires": None,
            },
            "properties": {"correlation_id": task_id, "delivery_mode": 2, "priority": 0},
        }

    def _envelope(self, row: Row) -> str:
        """A message as Celery's, with some of it exchanged."""
        message = self._good(f"id-{self._number}")
        for _ in range(self._random.randrange(4)):
            self._spoil(message)
        headers = message.get("headers")
        if isinstance(headers, dict):
            row.ids.add(_as_id(headers.get("id")))
        return _dumps(message)

    def _packed(self, row: Row) -> str:
        """A message whose body is binary or compressed, or says so."""
        message = self._good(f"id-{self._number}")
        row.ids.add(f"id-{self._number}")
        body = _dumps(
            self._pick((message["body"], self._value(), [[], {}, self._value()]))
        ).encode()
        pack = self._pick(((None, bytes), ("zlib", zlib.compress), ("bzip2", bz2.compress)))
        packed = pack[1](body)
        if self._random.random() < 0.3:
            packed = packed[: self._random.randrange(len(packed) + 1)]
        message["headers"]["compression"] = self._pick((pack[0], pack[0], self._value()))
        message["body"] = base64.b64encode(packed).decode()
        message["body-encoding"] = self._pick(("base64", "base64", "text", "json"))
        return _dumps(message)

    def _old(self, row: Row) -> str:
        """A message of Celery's protocol 1."""
        message = self._good(f"id-{self._number}")
        headers = message["headers"]
        message["headers"] = self._pick(({}, {}, {"task": "ok"}))
        message["body"] = {
            "task": headers["task"],
            "id": headers["id"],
            "args": [self._number],
            "kwargs": {},
            "retries": 0,
            "eta": None,
            "expires": None,
            "callbacks": None,
            "errbacks": None,
        }
        for _ in range(self._random.randrange(3)):
            self._exchange(message["body"], (*_HEADERS, "args", "kwargs", "chord", "utc"))
        row.ids.add(_as_id(message["body"].get("id")))
        return _dumps(message)

    def _row(self, row: Row) -> str:
        """A JSON object with a task."""
        found: dict[str, Any] = {"task": self._pick((*_TASKS, *_TASKS, "unheard_of"))}
        found["args"] = [self._number]
        if self._random.random() < 0.5:
            found["id"] = f"id-{self._number}"
        for _ in range(self._random.randrange(3)):
            self._exchange(found, _FIELDS)
        row.ids.add(_as_id(found.get("id")))
        return _dumps(found)

    def _nonsense(self, _row: Row) -> str:
        what = self._random.randrange(6)
        if what == 0:
            length = self._random.choice((0, 1, 10, 1000))
            codes = [self._random.randrange(0x20, 0x2FFFF) for _ in range(length)]
            return "".join(chr(code) for code in codes if not 0xD800 <= code <= 0xDFFF)
        if what == 1:
            return _dumps(self._value())
        if what == 2:
            begin: str = self._pick(("[", '{"a":', '{"task": "ok", "args": ['))
            return begin * 20 * int(self._pick(_DEPTHS))
        if what == 3:
            text = _dumps(self._good(f"id-{self._number}"))
            return text[: self._random.randrange(len(text))]
        if what == 4:
            return "1" * int(self._pick((1, 100, 5000)))
        return bytes(self._random.randrange(256) for _ in range(50)).decode("latin-1")

    def _spoil(self, message: dict[str, Any]) -> None:
        """Exchange one part of a message."""
        where = self._random.randrange(6)
        headers, properties = message.get("headers"), message.get("properties")
        if where == 0:
            self._exchange(message, (*message, "body-encoding"))
        elif where <= 2 and isinstance(headers, dict):
            self._exchange(headers, _HEADERS)
        elif where == 3 and isinstance(properties, dict):
            self._exchange(properties, _PROPERTIES)
        elif isinstance(message.get("body"), list) and message["body"]:
            body = message["body"]
            at = self._random.randrange(len(body))
            if isinstance(body[at], dict) and self._random.random() < 0.6:
                self._exchange(body[at], ("callbacks", "errbacks", "chain", "chord", "a", "\ud83e"))
            else:
                body[at] = self._value()

    def _exchange(self, values: dict[str, Any], names: tuple[str, ...]) -> None:
        name = self._pick(names)
        if self._random.random() < 0.15:
            values.pop(name, None)
        else:
            values[name] = self._value()

    def _value(self, depth: int = 0) -> Any:  # noqa: PLR0911 - a kind each
        """Any JSON value, mostly an odd one."""
        kind = self._random.randrange(12)
        if kind <= 2:
            return self._pick(_TEXTS)
        if kind == 3:
            return self._pick(_NUMBERS)
        if kind == 4:
            return self._pick(_DATES)
        if kind == 5:
            return self._pick((None, True, False))
        if kind == 6:
            return self._nested()
        if kind == 7:
            marker = self._pick(("datetime", "uuid", "decimal", "bytes", "base64", "nope", 5))
            return {"__type__": marker, "__value__": self._pick((*_DATES, *_TEXTS, None))}
        if kind == 8:
            return {"task": self._pick((*_TASKS, 5)), "args": [1], "kwargs": {}, "options": {}}
        if depth > 2:
            return []
        if kind == 9:
            return {self._pick(_TEXTS): self._value(depth + 1) for _ in range(2)}
        return [self._value(depth + 1) for _ in range(self._random.randrange(4))]

    def _nested(self) -> Any:
        """Something nested deeply; made with no recursion."""
        value: Any = []
        is_list = self._random.random() < 0.5
        for _ in range(self._pick(_DEPTHS)):
            value = [value] if is_list else {"a": value}
        return value

    # -- columns ----------------------------------------------------------------------------------

    def _spoil_columns(self, row: Row) -> None:
        odd: dict[str, Callable[[], Any]] = {
            "queue": lambda: self._pick(_QUEUES),
            "job_status": lambda: self._random.choice((0, 0, 1, 2, 3, 4, 5, -1, 100, -128, 127)),
            "owner": lambda: self._pick((None, "", " ", "x", "0" * 32, "'; --", "%s", "zz/zz")),
            "claim_order": lambda: self._random.randrange(256),
            "deliveries": lambda: self._pick((0, 1, 5, 2**31, 2**32 - 1)),
            "due_at": lambda: self._pick((None, *_TIMES)),
            "expires_at": lambda: self._pick((None, None, *_TIMES)),
            "created_at": lambda: self._pick(_TIMES[:1] + _TIMES[3:]),
            "claimed_at": lambda: self._pick((None, *_TIMES[:1], *_TIMES[3:])),
            "finished_at": lambda: self._pick((None, *_TIMES[:1], *_TIMES[3:])),
            "order_key": lambda: self._pick((None, "", " ", f"k{self._number % 7}", "x" * 255)),
            "order_limit": lambda: self._pick((None, 0, 1, 65535)),
            "unique_key": lambda: self._pick((None, f"u{self._number}", f"queued:{self._number}")),
            "reason": lambda: self._pick((None, "", "x" * 60000)),
            "recoveries": lambda: self._pick((0, 3, 2**32 - 1)),
            "started_at": lambda: self._pick((None, *_TIMES[:1], *_TIMES[3:])),
            "deferred_since": lambda: self._pick((None, *_TIMES[:1], *_TIMES[3:])),
        }
        for name in self._random.sample(list(odd), self._random.randrange(1, 4)):
            row.columns[name] = odd[name]()

    def _pick(self, values: Any) -> Any:
        """One of the values, a copy of its own."""
        return copy.copy(self._random.choice(values))


def _as_id(value: object) -> str:
    if isinstance(value, dict):
        value = value.get("__value__")
    return value if isinstance(value, str) else ""


def _dumps(value: object) -> str:
    """As JSON, with no recursion limit in the way."""
    try:
        return json.dumps(value)
    except RecursionError:
        return "[" * 5000
