"""One text for each value, the same in the program that sends a task and in the one that runs it.

The text is JSON. Values that a serializer may turn into each other on the way have the same text: a
tuple is its list, an Enum its value, a dataclass or model its fields, a dict's key 1 is "1".
"""

from __future__ import annotations

import base64
import json
import sys
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime
from decimal import Context, Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeGuard


def canonical(value: object) -> str:
    """The canonical JSON text of a value.

    Takes None, bool, int, float, str, bytes, UUID, date, datetime, Decimal, Enum, list, tuple, set,
    frozenset, dict, dataclasses and models of pydantic, within each other too. Sets and the keys of
    a dict are sorted; aware datetimes are equal when they are the same instant; so are equal
    Decimals.

    Raises:
        TypeError: The value, or one in it, is of another type; two equal ones might have two texts.
    """
    if isinstance(value, Enum):
        return canonical(value.value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return json.dumps(value)
    if is_dataclass(value) and not isinstance(value, type):
        return _object((field.name, getattr(value, field.name)) for field in fields(value))
    if _is_model(value):
        names = (*type(value).model_fields, *(value.model_extra or ()))
        return _object((name, getattr(value, name)) for name in names)
    for kind, text in _TEXTS:
        if isinstance(value, kind):
            return text(value)
    raise TypeError(f"is a {type(value).__qualname__}, which has no canonical text")


def _is_model(value: Any) -> TypeGuard[Any]:  # noqa: ANN401 - any value
    """Whether it is a model of pydantic, if that is installed."""
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and isinstance(value, pydantic.BaseModel)


def plain(value: object) -> str:
    """The canonical text without the quotes that JSON puts round a single text."""
    text = canonical(value)
    return str(json.loads(text)) if text.startswith('"') else text


def _object(items: Iterable[tuple[object, object]]) -> str:
    pairs = sorted((json.dumps(plain(name)), canonical(value)) for name, value in items)
    return f"{{{','.join(f'{name}:{value}' for name, value in pairs)}}}"


def _datetime(value: datetime) -> str:
    aware = value.tzinfo is not None and value.utcoffset() is not None
    return json.dumps((value.astimezone(UTC) if aware else value).isoformat())


def _decimal(value: Decimal) -> str:
    # With all its digits, as normalize() is to drop zeros and not to round.
    exact = Context(prec=max(1, len(value.as_tuple().digits)), traps=[])
    return json.dumps(str(value.normalize(exact)))


def _array(values: Iterable[object]) -> str:
    return f"[{','.join(map(canonical, values))}]"


def _sorted_array(values: Iterable[object]) -> str:
    return f"[{','.join(sorted(map(canonical, values)))}]"


# datetime comes before date, its base class
_TEXTS: tuple[tuple[type | tuple[type, ...], Callable[..., str]], ...] = (
    ((list, tuple), _array),
    ((set, frozenset), _sorted_array),
    (dict, lambda value: _object(value.items())),
    (bytes, lambda value: f'{{"base64":"{base64.b64encode(value).decode("ascii")}"}}'),
    (UUID, lambda value: json.dumps(str(value))),
    (datetime, _datetime),
    (date, lambda value: json.dumps(value.isoformat())),
    (Decimal, _decimal),
)
