from __future__ import annotations

from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from uuid import UUID

import pytest
from kombu.utils.json import dumps, loads

from celery_mysqllock.tasks.canonical import canonical


class Color(Enum):
    RED = "red"


class Level(IntEnum):
    LOW = 1


class Shade(str, Enum):  # noqa: UP042 - as older programs have it
    DARK = "dark"


@dataclass
class Account:
    number: int
    tags: tuple[str, ...] = ()


Point = namedtuple("Point", "x y")  # noqa: PYI024 - a plain one, as users have them

A_UUID = UUID("12345678-1234-5678-1234-567812345678")
NOON = datetime(2026, 2, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (1, "1"),
        (1.0, "1.0"),
        ("a", '"a"'),
        ("é", '"\\u00e9"'),
        (b"a", '{"base64":"YQ=="}'),
        (A_UUID, '"12345678-1234-5678-1234-567812345678"'),
        (date(2026, 2, 1), '"2026-02-01"'),
        (datetime(2026, 2, 1, 12), '"2026-02-01T12:00:00"'),  # noqa: DTZ001 - a naive one
        (NOON, '"2026-02-01T12:00:00+00:00"'),
        (Decimal("1.50"), '"1.5"'),
        (Color.RED, '"red"'),
        ([1, "a"], '[1,"a"]'),
        ({"b": 1, "a": [2]}, '{"a":[2],"b":1}'),
        ({3, 1, 2}, "[1,2,3]"),
        (Account(7, ("x",)), '{"number":7,"tags":["x"]}'),
    ],
)
def test_each_allowed_type_has_a_text(value: object, text: str) -> None:
    assert canonical(value) == text


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((1, 2), [1, 2]),
        (Point(1, 2), [1, 2]),
        (frozenset({"b", "a"}), {"a", "b"}),
        (OrderedDict(b=1, a=2), {"a": 2, "b": 1}),
        ({1: "a", None: "b"}, {"1": "a", "null": "b"}),
        (Level.LOW, 1),
        (Shade.DARK, "dark"),
        (NOON, NOON.astimezone(timezone(timedelta(hours=2)))),
        (Decimal(100), Decimal("1E+2")),
        (
            Decimal("0.1234567890123456789012345678901"),
            Decimal("0.12345678901234567890123456789010"),
        ),
        (Account(7), {"number": 7, "tags": []}),
    ],
)
def test_values_that_a_serializer_may_exchange_are_equal(one: object, other: object) -> None:
    assert canonical(one) == canonical(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, "1"),
        (1, True),
        (1, 1.0),
        (None, "null"),
        ("a", b"a"),
        ([], {}),
        ([[1], 2], [1, [2]]),
        ({"a": 1}, {"a": 2}),
        (date(2026, 2, 1), datetime(2026, 2, 1)),  # noqa: DTZ001 - a naive one
        (
            Decimal("0.12345678901234567890123456789"),
            Decimal("0.123456789012345678901234567890001"),
        ),
    ],
)
def test_different_values_are_different(one: object, other: object) -> None:
    assert canonical(one) != canonical(other)


@pytest.mark.parametrize(
    "value",
    [
        {"a": (1, 2), "b": A_UUID, "c": NOON, "d": date(2026, 2, 1), "e": Decimal("1.50")},
        {"a": b"\xff", "b": b"text", "c": Shade.DARK, "d": Level.LOW, "e": {True: 3}},
    ],
)
def test_the_text_survives_the_way_through_a_message(value: object) -> None:
    assert canonical(loads(dumps(value))) == canonical(value)


@pytest.mark.parametrize("value", [object(), [object()], {"a": object()}, Account, len])
def test_anything_else_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="has no canonical text"):
        canonical(value)
