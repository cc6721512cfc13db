"""Waiting in tests for what gives no event: look until it is so, or fail at a deadline."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    T = TypeVar("T")


def eventually(condition: Callable[[], T], within: float = 30.0, what: str = "") -> T:
    """Return the condition's first true value.

    Raises:
        AssertionError: It was not true within that many seconds.
    """
    deadline = time.monotonic() + within
    while True:
        if value := condition():
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what or 'the condition'} did not come true within {within} s")
        time.sleep(0.02)
