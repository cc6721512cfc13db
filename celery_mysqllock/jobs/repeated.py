"""Warnings of failures that repeat: at once, and then once a minute for each cause."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

# Seconds.
_PAUSE = 60.0


class RepeatedWarnings:
    """Logs a failure that repeats with every attempt, without filling the log.

    Args:
        logger: The logger.
        clock: A monotonic clock, in seconds.
    """

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._said: dict[tuple[object, ...], float] = {}

    def warn(self, text: str, *values: object) -> None:
        """Log it, unless the same was logged less than a minute ago.

        Args:
            text: With ``%s`` and the like for the values.
            values: Errors of one class count as the same, since their texts may differ.
        """
        now = self._clock()
        self._said = {cause: at for cause, at in self._said.items() if now - at < _PAUSE}
        cause = (text, *(type(one) if isinstance(one, Exception) else str(one) for one in values))
        if cause not in self._said:
            self._said[cause] = now
            self._logger.warning(text, *values)
