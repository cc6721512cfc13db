"""The table of the brokers, and how ours stands to the aims."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from benchmarks.broker.brokers import OURS, RABBITMQ, REDIS
from benchmarks.broker.workers import Worked, p50, p99

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console


@dataclass
class Measured:
    """What was measured of one broker, one figure a round; ``bare`` is PyMySQL's own INSERT."""

    published: list[float] = field(default_factory=list)
    consumed: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    worked: list[Worked] = field(default_factory=list)

    def over(self, figure: Callable[[Worked], float | None]) -> float | None:
        """The median of a worker's figure over the rounds."""
        values = [value for value in map(figure, self.worked) if value is not None]
        return median(values) if values else None


def figures(measured: Measured) -> dict[str, float | None]:
    """All figures of one broker, medians over the rounds."""
    return {
        "publish/s": median(measured.published),
        "consume/s": median(measured.consumed),
        "tasks/s": measured.over(lambda one: one.tasks),
        "p50 ms": measured.over(lambda one: p50(one.at_rest)),
        "p99 ms": measured.over(lambda one: p99(one.at_rest)),
        "burst p50": measured.over(lambda one: p50(one.after_burst)),
        "burst p99": measured.over(lambda one: p99(one.after_burst)),
        "idle queries/s": measured.over(lambda one: one.queries),
        "idle server %": measured.over(lambda one: one.server_cpu),
        "idle worker %": measured.over(lambda one: one.worker_cpu),
    }


def report(console: Console, version: str, measured: dict[str, Measured]) -> None:
    """Print the table of figures and the table of aims."""
    all_figures = {name: figures(one) for name, one in measured.items()}
    table = Table(
        title=f"medians of {len(measured[OURS].published)} rounds; ours on {version}",
        box=box.SIMPLE_HEAD,
        title_justify="left",
    )
    table.add_column("")
    for name in all_figures:
        table.add_column(name, justify="right")
    for row in all_figures[OURS]:
        table.add_row(row, *(_spelled(one[row]) for one in all_figures.values()))
    console.print(table)
    console.print(_aims(all_figures, median(measured[OURS].bare)))


def _spelled(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"  # noqa: PLR2004 - three digits


def _aims(all_figures: dict[str, dict[str, float | None]], bare: float) -> Table:
    table = Table(title="aims", box=box.SIMPLE_HEAD, title_justify="left")
    for column in ("", "ratio", "aim", ""):
        table.add_column(column, justify="right" if column else "left")
    ours = all_figures[OURS]

    def add(what: str, one: float | None, other: float | None, aim: float, *, least: bool) -> None:
        if one is None or not other:
            return
        ratio = one / other
        met = ratio >= aim if least else ratio <= aim
        verdict = "[green]met" if met else "[red]missed"
        table.add_row(what, f"{ratio:.2f}", f"{'>=' if least else '<='} {aim:g}", verdict)

    redis, rabbitmq = all_figures.get(REDIS, {}), all_figures.get(RABBITMQ, {})
    add("publish : Redis", ours["publish/s"], redis.get("publish/s"), 1.2, least=True)
    add("publish : bare INSERT", ours["publish/s"], bare, 0.8, least=True)
    add("consume : RabbitMQ", ours["consume/s"], rabbitmq.get("consume/s"), 1, least=True)
    add("tasks : RabbitMQ", ours["tasks/s"], rabbitmq.get("tasks/s"), 1, least=True)
    for when, column in (("at rest", "{} ms"), ("after a burst", "burst {}")):
        half, most = column.format("p50"), column.format("p99")
        add(f"latency p50 {when} : Redis", ours[half], redis.get(half), 1.1, least=False)
        add(f"latency p99 {when} : own p50", ours[most], ours[half], 2, least=False)
    return table
