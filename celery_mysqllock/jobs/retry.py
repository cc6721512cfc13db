"""Sends a statement again that the server rolled back for somebody else's sake."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from celery_mysqllock.exceptions import TransientError

if TYPE_CHECKING:
    from collections.abc import Callable

    T = TypeVar("T")

_ATTEMPTS = 10


def retried(statement: Callable[[], T]) -> T:
    """Run the statement, up to ten times while it ends in a deadlock or a lock wait's end.

    Raises:
        TransientError: It did so every time.
    """
    for _ in range(_ATTEMPTS - 1):
        try:
            return statement()
        except TransientError:
            continue
    return statement()
