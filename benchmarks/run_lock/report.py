"""The table of what happened under the kills, and its verdict."""

from __future__ import annotations

from collections import Counter
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from rich import box
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console


class Kill(NamedTuple):
    """Something of a holder's was killed.

    Attributes:
        kind: What.
        at: When, on the clock of ``time.monotonic``.
        section: The process id of its command.
    """

    kind: str
    at: float
    section: int


def report(
    console: Console,
    title: str,
    notes: Sequence[dict[str, Any]],
    kills: Sequence[Kill],
    ended: Mapping[int, int],
) -> bool:
    """Print what happened; return whether no commands overlapped that should not have.

    When a session is killed, the server has given the lock to the next one before anybody can
    tell the command of the first one to end: only those overlaps are not wrong.

    Args:
        console: Where to.
        title: What stands above.
        notes: What the sections noted, in the order of time.
        kills: What was killed.
        ended: How many ``mysqllock run`` ended with which exit code.
    """
    kinds = Counter(note["kind"] for note in notes)
    lost = {kill.section for kill in kills if kill.kind == "session killed"}
    overlaps = _overlapped(notes)
    wrong = [section for section in overlaps if section not in lost]
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", show_header=False)
    for width in (True, False, False):
        table.add_column("", no_wrap=width)
    table.add_row("commands run", str(kinds["begin"]), "")
    for kind, number in sorted(Counter(kill.kind for kill in kills).items()):
        table.add_row(f"  {kind}", str(number), _handovers(kind, notes, kills))
    codes = ", ".join(f"{number} x {code}" for code, number in sorted(ended.items()))
    table.add_row("exit codes", str(sum(ended.values())), codes)
    table.add_row("overlaps after a KILL of the session", str(len(overlaps) - len(wrong)), "")
    verdict = "[red]wrong" if wrong else "[green]ok"
    table.add_row("[bold]any other overlaps", str(len(wrong)), verdict)
    console.print(table)
    return not wrong


def _overlapped(notes: Sequence[dict[str, Any]]) -> list[int]:
    """The sections that were still there when another one began."""
    found, last = [], 0
    for note in notes:
        if note["kind"] == "begin":
            last = note["pid"]
        elif note["kind"] == "overlap":
            found.append(last)
    return found


def _handovers(kind: str, notes: Sequence[dict[str, Any]], kills: Sequence[Kill]) -> str:
    begins = [note["at"] for note in notes if note["kind"] == "begin"]
    waits = [
        min(at for at in begins if at > kill.at) - kill.at
        for kill in kills
        if kill.kind == kind and begins and begins[-1] > kill.at
    ]
    return f"next command after {median(waits) * 1000:.0f} ms (median)" if waits else ""
