"""The table at the end of the faults, and its verdict."""

from __future__ import annotations

from collections import Counter
from statistics import median
from typing import TYPE_CHECKING

from rich import box
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from benchmarks.campaign import Fault
    from benchmarks.faults.ledger import Ledger

_MOST_SHOWN = 10


def report(
    console: Console, title: str, ledger: Ledger, faults: Sequence[Fault], left: dict[str, int]
) -> bool:
    """Print what happened.

    Args:
        console: Where to.
        title: What stands above.
        ledger: What ran.
        faults: What was injected.
        left: The rows that are left in the job table, by status.

    Returns:
        Whether no confirmed message was lost and each duplicate is explained.
    """
    lost, (explained, unexplained) = ledger.lost(), ledger.explained(faults)
    causes = Counter(fault.kind for _, fault in explained)
    unacked = max((fault.at - (run.end or fault.at) for run, fault in explained), default=0.0)
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", show_header=False)
    table.add_column("", no_wrap=True)
    table.add_column("", justify="right")
    table.add_column("")
    injected = ", ".join(f"{number} x {kind}" for kind, number in _counted(faults).items())
    table.add_row("faults injected", str(len(faults)), injected)
    table.add_row("publishes confirmed", str(len(ledger.confirmed)))
    ran_unsure = len(ledger.unsure.keys() & ledger.ended)
    table.add_row(
        "publishes unsure", str(len(ledger.unsure)), f"an error; {ran_unsure} of them ran"
    )
    table.add_row("confirmed and run", str(len(ledger.confirmed) - len(lost)))
    table.add_row("[bold]confirmed and lost", str(len(lost)), "[red]wrong" if lost else "[green]ok")
    by_cause = ", ".join(f"{number} by {cause}" for cause, number in causes.items())
    table.add_row("duplicates", str(len(ledger.duplicates())), by_cause)
    waited = f"{max(0.0, unacked):.2f}"
    table.add_row("  longest from their end to the fault", waited, "seconds without ack")
    wrong = "[red]wrong" if unexplained else "[green]ok"
    table.add_row("duplicates unexplained", str(len(unexplained)), wrong)
    _add_redeliveries(table, ledger.redeliveries(faults))
    table.add_row(
        "rows left", str(sum(left.values())), ", ".join(f"{k}: {v}" for k, v in left.items())
    )
    console.print(table)
    for message in lost[:_MOST_SHOWN]:
        runs = ", ".join(f"begun by {run.worker}" for run in ledger.runs.get(message, []))
        console.print(f"[red]lost: {escape(message)} ({runs or 'never begun'})")
    for first, second in unexplained[:_MOST_SHOWN]:
        console.print(
            f"[red]duplicate: {escape(first.message)} by {first.worker} from {first.begin:.3f} to "
            f"{first.end:.3f} and by {second.worker} at {second.begin:.3f}"
        )
    return not lost and not unexplained


def _counted(faults: Sequence[Fault]) -> Counter[str]:
    return Counter(fault.kind for fault in faults)


def _add_redeliveries(table: Table, redeliveries: Sequence[tuple[float, bool]]) -> None:
    calm = [seconds for seconds, disturbed in redeliveries if not disturbed]
    for title, values in (
        ("redelivery after SIGKILL", calm),
        (
            "  ... with the server down meanwhile",
            [one for one, disturbed in redeliveries if disturbed],
        ),
    ):
        if values:
            table.add_row(
                title, str(len(values)), f"median {median(values):.2f} s, worst {max(values):.2f} s"
            )
