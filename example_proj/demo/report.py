"""The table at the end of the demo, and its verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from example_proj.demo.figures import Figures

_COLUMNS = (
    "jobs\nin",
    "\nrun",
    "dupli-\ncates",
    "over-\nlaps",
    "hand-\nover ms",
    "redeli-\nvery s",
)


def report(console: Console, title: str, scenes: Sequence[Figures], wrong: Sequence[str]) -> None:
    """Print the figures of all scenes and the problems.

    Args:
        console: Where to.
        title: The title of the table.
        scenes: The figures.
        wrong: The problems, as sentences.
    """
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", collapse_padding=True)
    table.add_column("\nscene", no_wrap=True)
    for column in _COLUMNS:
        table.add_column(column, justify="right")
    table.add_column("")
    for figures in scenes:
        verdict = "[red]wrong" if figures.wrong() else "[green]ok"
        table.add_row(f"{figures.scene} {figures.title}", *_cells(figures), verdict)
    console.print()
    console.print(table)
    for problem in wrong:
        console.print(f"[red]{escape(problem)}")
    if not wrong:
        console.print("[green]Each figure is right.")


def _cells(figures: Figures) -> list[str]:
    values = (
        *(figures.jobs_in, figures.run, figures.duplicates, figures.overlaps),
        *(figures.handover, figures.redelivery),
    )
    return ["" if value is None else format(round(value, 1), "g") for value in values]
