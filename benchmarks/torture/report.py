"""The table at the end of the torture, and its verdict."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from benchmarks.torture.contender import NAMES
from benchmarks.torture.sections import fenced_overlaps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from benchmarks.campaign import Fault
    from benchmarks.torture.sections import Section, Sections

_MOST_SHOWN = 10


def report(
    console: Console,
    title: str,
    sections: Sections,
    faults: Sequence[Fault],
    rows: Sequence[tuple[str, str, int]],
) -> bool:
    """Print what happened; return whether nothing is wrong.

    Args:
        console: Where to.
        title: What stands above.
        sections: What the contenders noted.
        faults: What was injected.
        rows: The rows that were written through the fence, in the order of their ids.
    """
    fenced, overlaps = fenced_overlaps(rows), sections.overlaps()
    unexplained = [pair for pair in overlaps if not _explained(*pair)]
    kinds = Counter(fault.kind for fault in faults)
    injected = ", ".join(f"{number} x {kind}" for kind, number in kinds.items())
    lost = len({id(one) for one, _ in overlaps})
    events = sections.events
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", show_header=False)
    for width in (True, False, False):
        table.add_column("", no_wrap=width)
    for what, number, more in (
        ("faults injected", len(faults), injected),
        ("sections done", sections.done, f"on {len(NAMES)} names"),
        ("losses told by on_lost", events["told"], ""),
        ("losses raised by release", events["lost"], ""),
        ("writes kept out by the fence", events["fenced off"], ""),
        ("other errors", events["failed"], "the server was gone"),
        ("rows written through the fence", len(rows), ""),
        ("[bold]overlaps in them", len(fenced), _verdict(fenced)),
        ("overlaps outside the fence", len(overlaps), f"with {lost} sections"),
        ("[bold]  without a reported loss", len(unexplained), _verdict(unexplained)),
    ):
        table.add_row(what, str(number), more)
    console.print(table)
    for one, two in unexplained[:_MOST_SHOWN]:
        console.print(f"[red]{one} overlaps {two}")
    return not fenced and not unexplained


def _explained(one: Section, two: Section) -> bool:
    return one.reported is not None or two.reported is not None


def _verdict(wrong: Sequence[object]) -> str:
    return "[red]wrong" if wrong else "[green]ok"
