"""What the commands' parameters have in common: types of numbers, and options that select jobs."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import click

from celery_mysqllock.jobs import JobStatus, Selection
from celery_mysqllock.settings import duration

if TYPE_CHECKING:
    from collections.abc import Callable


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
        """Convert the value."""
        seconds = float(super().convert(value, param, ctx))
        if not math.isfinite(seconds):
            self.fail(f"{value!r} is not a number of seconds.", param, ctx)
        return seconds


class Duration(click.ParamType):  # type: ignore[type-arg] # generic in the newest click only
    """A number of seconds, or a number followed by s, m, h or d."""

    name = "duration"

    def convert(
        self,
        value: Any,  # noqa: ANN401 - click's
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> float:
        """Convert the value to seconds."""
        if isinstance(value, float):
            return value
        if value == "0":
            return 0.0
        seconds = duration(float(value) if value.isdecimal() else value)
        if seconds is None:
            self.fail(f"{value!r} is not a duration such as 90s, 15m, 1h or 7d.", param, ctx)
        return seconds


def selection_options(*, status: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the options that select jobs to a command, which gets one argument ``selection``.

    Args:
        status: Whether there is ``--status``.
    """
    options = [
        click.option("--queue", "-Q", help="Only jobs of this queue."),
        click.option("--task", help="Only jobs of this task, by its full name."),
        click.option(
            "--older-than",
            type=Duration(),
            help="Only jobs stored longer ago, such as 90s, 1h or 7d.",
        ),
    ]
    if status:
        names = [known.value for known in JobStatus]
        options.insert(
            1,
            click.option("--status", type=click.Choice(names), help="Only jobs with this status."),
        )

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def select(
            *args: Any,  # noqa: ANN401 - whatever the command takes
            queue: str | None,
            task: str | None,
            older_than: float | None,
            status: str | None = None,
            **kwargs: Any,  # noqa: ANN401 - as above
        ) -> Any:  # noqa: ANN401 - as above
            wanted = JobStatus(status) if status else None
            selection = Selection(queue, wanted, task, older_than)
            return command(*args, selection=selection, **kwargs)

        for option in reversed(options):
            select = option(select)
        return select

    return decorate


class ListGroup(click.Group):
    """A group whose command ``list`` runs, with all its options, when no command is named."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Insert ``list`` if the name of a command is missing."""
        if not args or (args[0].startswith("-") and args[0] not in context.help_option_names):
            args = ["list", *args]
        return super().parse_args(context, args)
