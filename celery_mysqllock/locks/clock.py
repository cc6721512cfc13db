"""The clock by which a lock is judged to be lost."""

from __future__ import annotations

import time

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    """Seconds on a clock that goes on while the machine sleeps, as the server's does."""
    return time.clock_gettime(_CLOCK)
