"""Replaces a function of Celery's worker by one that calls it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from celery.utils.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]

logger = get_logger(__name__)


def replace(owner: type, name: str, wrap: Wrap) -> None:
    """Replace a method of a class, once, however many workers start in this process.

    Args:
        owner: The class.
        name: The method's name.
        wrap: Makes the new method of the old one.
    """
    if (inner := getattr(owner, name, None)) is None:
        _warn(f"{owner.__module__}.{owner.__qualname__}.{name}")
    else:
        setattr(owner, name, _wrapped(inner, wrap))


def replace_item(functions: MutableMapping[str, Any], name: str, wrap: Wrap) -> None:
    """Replace a remote control command in the same way."""
    if (inner := functions.get(name)) is None:
        _warn(f"the command {name!r}")
    else:
        functions[name] = _wrapped(inner, wrap)


def _wrapped(inner: Any, wrap: Wrap) -> Any:
    wraps = getattr(inner, "wrapped_by", ())
    if wrap in wraps:
        return inner
    outer: Any = functools.wraps(inner)(wrap(inner))
    outer.wrapped_by = (*wraps, wrap)
    return outer


def _warn(name: str) -> None:
    logger.warning(
        "This release of Celery does not have %s. The page 'Internals' of celery-mysqllock's "
        "documentation says what the worker lacks without it.",
        name,
    )
