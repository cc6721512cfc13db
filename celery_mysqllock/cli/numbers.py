"""Numbers that options of commands take: never one that is none (``nan``), or without an end."""

from __future__ import annotations

import math
from typing import Any

import click


class Seconds(click.FloatRange):
    """A number of seconds, 0 or more unless other bounds are given."""

    name = "seconds"

    def __init__(self, least: float = 0.0, most: float | None = None) -> None:
        super().__init__(least, most)

    def convert(
        self,
        value: Any,  # noqa: ANN401 - click's
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> float:
        """The number."""
        seconds = float(super().convert(value, param, ctx))
        if not math.isfinite(seconds):
            self.fail(f"{value!r} is no number of seconds.", param, ctx)
        return seconds
