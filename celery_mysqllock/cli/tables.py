"""How commands print: tables for people, JSON for programs."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from celery_mysqllock.cli.visible import visible, visible_json, visible_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from _typeshed import DataclassInstance

    from celery_mysqllock.jobs import ConsumerStatus

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))


def report(text: str, content: object, *, as_json: bool) -> None:
    """Print the outcome of a command: a text for people, or JSON for programs."""
    if as_json:
        print_json(content)
    else:
        echo(text)


def print_json(content: object) -> None:
    """Print JSON; dataclasses become objects, times ISO 8601 in UTC."""
    click.echo(visible_json(json.dumps(content, default=_plain, ensure_ascii=False, indent=2)))


def records(found: Iterable[DataclassInstance]) -> list[dict[str, Any]]:
    """The records as JSON objects."""
    return [dataclasses.asdict(record) for record in found]


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table that fits the terminal, or 80 columns where there is none.

    Args:
        columns: The titles. A leading ``>`` marks a column of numbers: aligned right, never cut.
            If a line is too long, its last column is cut and the other texts are wrapped.
        rows: The cells; None becomes a dash.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        if column.startswith(">"):
            table.add_column(column[1:], justify="right", no_wrap=True)
        else:
            table.add_column(column, overflow="fold")
    for row in rows:
        *cells, last = (cell_of("-" if cell is None else cell) for cell in row)
        last.no_wrap, last.overflow = True, "ellipsis"
        table.add_row(*cells, last)
    show(table)


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Print names and values, one per line; those with None are left out."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        if value is not None:
            table.add_row(name, cell_of(value))
    show(table)


def cell_of(value: object, style: str = "") -> Text:
    """A cell without markup and without terminal escapes."""
    return Text(visible(str(value)), style)


def echo(text: str) -> None:
    """Print a text that may quote other programs."""
    click.echo(visible_lines(text))


def show(table: Table) -> None:
    """Print a table of rich without trailing spaces."""
    console = Console(highlight=False)
    with console.capture() as lines:
        console.print(table)
    for line in lines.get().splitlines():
        click.echo(line.rstrip())


def span(seconds: float | None) -> str | None:
    """A number of seconds for people, such as ``5 min``."""
    if seconds is None:
        return None
    for unit, name in _UNITS:
        if seconds >= unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{max(0, seconds):.0f} s"


def since(moment: datetime | None) -> str | None:
    """How long ago a moment was, such as ``5 min``."""
    return span((datetime.now(UTC) - moment).total_seconds()) if moment else None


def queues_of(consumer: ConsumerStatus) -> str:
    """The queues of a consumer, for people."""
    return ", ".join(consumer.queues) or ("-" if consumer.is_worker else "(listens)")


def time_of(moment: datetime | None) -> str | None:
    """A time for people, in UTC."""
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC" if moment else None


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    return str(value)
