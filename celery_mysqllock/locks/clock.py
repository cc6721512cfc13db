"""The clock by which a lock is judged to be lost, and the end of a wait."""

from __future__ import annotations

import math
import time

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
# Seconds that count as no time left. The server's clock may run a little ahead of ours.
_NOTHING = 0.02


def now() -> float:
    """Seconds on a clock that goes on while the machine sleeps, as the server's does."""
    return time.clock_gettime(_CLOCK)


class Deadline:
    """The end of a wait.

    Args:
        wait: Whole seconds from now, None for no end.
    """

    def __init__(self, wait: int | None) -> None:
        self._end = math.inf if wait is None else time.monotonic() + wait

    @property
    def is_over(self) -> bool:
        """Whether no time is left."""
        return self._end - time.monotonic() < _NOTHING

    def left(self) -> float | None:
        """Seconds that are left, None when the wait has no end."""
        return None if self._end == math.inf else max(0.0, self._end - time.monotonic())

    def slice(self, most: int) -> int:
        """Whole seconds that a statement may wait now, at most ``most``."""
        left = self.left()
        return most if left is None else 0 if self.is_over else min(most, math.ceil(left))
