"""Replaces a function of Celery's worker by one that calls it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]


def replace(owner: type, name: str, wrap: Wrap) -> None:
    """Replace a method of a class, once, however many workers start in this process.

    Args:
        owner: The class.
        name: The method's name.
        wrap: Makes the new method of the old one.

    Raises:
        AttributeError: This release of Celery has no such method.
    """
    setattr(owner, name, _wrapped(getattr(owner, name), wrap))


def replace_item(functions: MutableMapping[str, Any], name: str, wrap: Wrap) -> None:
    """Replace a function of a table in the same way.

    Raises:
        KeyError: This release of Celery has no such function.
    """
    functions[name] = _wrapped(functions[name], wrap)


def _wrapped(inner: Any, wrap: Wrap) -> Any:
    wraps = getattr(inner, "wrapped_by", ())
    if wrap in wraps:
        return inner
    outer: Any = functools.wraps(inner)(wrap(inner))
    outer.wrapped_by = (*wraps, wrap)
    return outer
