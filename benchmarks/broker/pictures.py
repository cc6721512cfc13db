"""The pictures of the figures, for the documentation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.broker.brokers import OURS
from benchmarks.broker.report import figures

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from benchmarks.broker.report import Measured

_PANELS = {
    "throughput": (
        "Messages and tasks per second",
        "more is better",
        {"publish/s": "publish", "consume/s": "consume", "tasks/s": "tasks, 2 processes"},
    ),
    "latency": (
        "Milliseconds from publish to the task's first line",
        "less is better",
        {"p50 ms": "at rest, p50", "p99 ms": "at rest, p99", "burst p99": "after a burst, p99"},
    ),
}
_OURS, _PEER = "#00758f", "#c3ccd3"  # MySQL's blue, and a grey that steps back
_TEXT, _FAINT = "#24292f", "#6e7781"
_CUT = 6  # a bar is cut at so many times the next one
_HEIGHT = 0.36  # inches for one bar


def draw(measured: dict[str, Measured], version: str, folder: Path) -> list[Path]:
    """Draw all pictures as SVG and return their paths.

    Args:
        measured: What was measured, by broker.
        version: The MySQL server's.
        folder: Where they go; made when it is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # text stays text, so that it can be searched and read aloud
    mpl.rcParams.update({"svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10})
    mpl.rcParams["svg.hashsalt"] = "celery-mysqllock"
    values = {name: figures(one) for name, one in measured.items()}
    rounds = len(measured[OURS].published)
    note = f"One machine, one run, durable settings; medians of {rounds} rounds. Ours on {version}."
    paths = []
    for picture, (title, better, rows) in _PANELS.items():
        path = folder / f"{picture}.svg"
        _draw_one(values, rows, (f"{title} ({better})", note)).savefig(
            path, metadata={"Date": None}
        )
        paths.append(path)
    return paths


def _draw_one(
    values: dict[str, dict[str, float | None]], rows: dict[str, str], texts: tuple[str, str]
) -> Figure:
    title, note = texts
    height = _HEIGHT * len(values) + 1.25
    figure = Figure(figsize=(10, height), facecolor="white")
    panels = figure.subplots(1, len(rows), sharey=True)
    for panel, (row, label) in zip(panels, rows.items(), strict=True):
        _bars(panel, {name: one[row] or 0.0 for name, one in values.items()}, label)
    figure.suptitle(title, x=0.012, y=0.97, ha="left", color=_TEXT, fontsize=13, weight="bold")
    if any(panel.texts[len(values) :] for panel in panels):
        note += " A bar with // is cut."
    figure.text(0.012, 0.035, note, color=_FAINT, fontsize=8.5)
    figure.subplots_adjust(
        left=0.145, right=0.965, top=1 - 0.72 / height, bottom=0.38 / height, wspace=0.22
    )
    return figure


def _bars(panel: Axes, values: dict[str, float], label: str) -> None:
    end = _end(list(values.values()))
    colours = [_OURS if name == OURS else _PEER for name in values]
    lengths = [min(value, end) for value in values.values()]
    bars = panel.barh(list(values), lengths, color=colours, height=0.66)
    spelled = [f"{value:,.0f}" if value >= 100 else f"{value:.1f}" for value in values.values()]  # noqa: PLR2004 - three digits are enough
    panel.bar_label(bars, labels=spelled, padding=4, color=_TEXT, fontsize=9.5)
    for place, value in enumerate(values.values()):
        if value > end:
            panel.text(
                end * 0.9, place, "//", color="white", weight="bold", va="center", ha="center"
            )
    panel.set_title(label, loc="left", color=_TEXT, fontsize=10.5)
    panel.invert_yaxis()
    panel.set_xlim(0, end * 1.24)
    panel.xaxis.set_visible(False)
    panel.tick_params(axis="y", length=0, colors=_TEXT)
    for side in ("top", "right", "bottom", "left"):
        panel.spines[side].set_visible(False)


def _end(values: list[float]) -> float:
    """Where the longest bar ends: it is cut when beside it the others would not be seen."""
    *_, second, longest = sorted([0.0, *values])
    return min(longest, _CUT * second) if second else longest
