"""A frame of ``top``: an overview in lines that fit the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from rich.console import Group
from rich.table import Table
from rich.text import Text

from celery_mysqllock.cli.overview import short_name
from celery_mysqllock.cli.tables import cell_of, queues_of, since, span
from celery_mysqllock.cli.visible import visible
from celery_mysqllock.jobs import JobStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from celery_mysqllock.cli.overview import Overview
    from celery_mysqllock.jobs import Job, QueueStatus
    from celery_mysqllock.locks.listing import HeldLock, Listing

_HEAD = 2  # lines above the sections
_BAR = "bold reverse"
_OLD = 60  # seconds after which an open transaction is coloured
_LONG = 100_000  # from this length on, a history list slows claims


class Section(NamedTuple):
    """A part of the frame: a bar with titles, and rows.

    Attributes:
        title: The title of the first column.
        total: How many items there are, which may be more than the rows.
        columns: The titles of the other columns; a leading ``>`` aligns right.
        rows: The cells.
    """

    title: str
    total: int
    columns: tuple[str, ...]
    rows: list[list[Text]]


def frame(overview: Overview, *, height: int, problem: str | None = None) -> RenderableType:
    """Lay out an overview.

    Args:
        overview: The overview.
        height: The terminal's lines.
        problem: Why the overview is out of date, None if it is not.
    """
    sections = [
        _queues(overview),
        _consumers(overview),
        _running(overview),
        _locks(overview.locks),
        _dead(overview),
    ]
    needed = [max(1, len(section.rows)) for section in sections]
    shares = _shares(needed, height - _HEAD - len(sections))
    shown = [_section(*pair) for pair in zip(sections, shares, strict=True)]
    return Group(_title(overview, problem), _health(overview), *shown)


def _shares(needed: Sequence[int], lines: int) -> list[int]:
    """Deal out the lines: in each turn two to the first section and one to each other one."""
    shares = [0] * len(needed)
    while lines > 0 and shares != list(needed):
        for number, need in [(0, needed[0]), *enumerate(needed)]:
            if shares[number] < need and lines > 0:
                shares[number] += 1
                lines -= 1
    return shares


def _section(section: Section, lines: int) -> RenderableType:
    table = Table(box=None, pad_edge=False, expand=True, header_style=_BAR, padding=(0, 1, 0, 0))
    rows = section.rows[:lines]
    hidden = section.total - len(rows)
    title = f"{section.title} {section.total}" + (f", {hidden} not shown" if hidden > 0 else "")
    table.add_column(title, ratio=1, no_wrap=True, overflow="ellipsis")
    for column in section.columns:
        name = column.lstrip(">")
        side = "right" if column.startswith(">") else "left"
        table.add_column(name, justify=side, no_wrap=True, overflow="ellipsis")  # type: ignore[arg-type] # "left" or "right"
    for row in rows:
        table.add_row(*row)
    if not rows and lines > 0:
        table.add_row(cell_of("none", style="dim"))
    return table


# -- the head --------------------------------------------------------------------------------------


def _title(overview: Overview, problem: str | None) -> RenderableType:
    line = Table.grid(expand=True)
    line.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    line.add_column(justify="right", no_wrap=True)
    where = Text.assemble(
        ("mysqllock top", "bold"), visible(f"  {overview.address}  {overview.server.server}")
    )
    now = cell_of(f"{overview.read_at:%H:%M:%S} UTC", style="dim")
    if problem is not None:
        where, now.style = cell_of(problem, style="bold red"), "bold red"
    line.add_row(where, now)
    return line


def _health(overview: Overview) -> Text:
    health = overview.server
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"{overview.rate:.1f} jobs/s", style="bold green" if overview.rate else "bold")
    line.append("   history list ")
    history = health.history_list_length
    is_long = history is not None and history >= _LONG
    line.append("?" if history is None else str(history), style="bold red" if is_long else "")
    line.append("   oldest transaction ")
    oldest = health.oldest_transaction
    if oldest is None:
        line.append("none" if health.knows_transactions else "?")
    else:
        style = "bold red" if oldest.age >= _OLD else ""
        line.append(f"{span(oldest.age)}, session {oldest.connection_id}", style=style)
    return line


# -- the sections ----------------------------------------------------------------------------------


def _queues(overview: Overview) -> Section:
    def count(number: int, style: str = "") -> Text:
        limit = overview.count_limit
        more = "+" if limit is not None and number >= limit else ""
        return cell_of(f"{number}{more}", style=style if number else "dim")

    def row(queue: QueueStatus) -> list[Text]:
        name = cell_of(queue.queue)
        if queue.paused_at is not None:
            name.append(f"  paused {since(queue.paused_at)}", style="yellow")
        return [
            name,
            count(queue.ready, "bold"),
            *map(count, (queue.scheduled, queue.waiting, queue.running)),
            count(queue.dead, "red"),
            cell_of(span(queue.oldest_age) or "-"),
            cell_of(f"{queue.rate:.1f}", style="green" if queue.rate else "dim"),
        ]

    busiest = sorted(overview.queues, key=_business, reverse=True)
    columns = (">ready", ">sched.", ">waiting", ">running", ">dead", ">oldest", ">jobs/s")
    return Section("queues", len(busiest), columns, [row(queue) for queue in busiest])


def _business(queue: QueueStatus) -> tuple[int, float, int]:
    return queue.ready + queue.running, queue.rate, queue.dead


def _consumers(overview: Overview) -> Section:
    ordered = sorted(overview.consumers, key=lambda consumer: consumer.is_alive)
    rows = [
        [
            cell_of(consumer.name or consumer.identity[:12]),
            cell_of("alive", style="green")
            if consumer.is_alive
            else cell_of("dead", style="bold red"),
            cell_of(str(consumer.claims)),
            cell_of(since(consumer.started_at) or "-"),
            cell_of(_cut(queues_of(consumer), 24)),
        ]
        for consumer in ordered
    ]
    return Section("consumers", len(rows), ("state", ">claims", ">since", "queues"), rows)


def _running(overview: Overview) -> Section:
    rows = [
        [
            *(cell_of(job.task or "text"), cell_of(since(job.claimed_at) or "-")),
            *(cell_of(_cut(job.queue, 14)), cell_of(_cut(job.consumer or "-", 26))),
        ]
        for job in overview.running
    ]
    total = max(overview.total(JobStatus.RUNNING), len(rows))
    return Section("running", total, (">for", "queue", "consumer"), rows)


def _locks(listing: Listing | None) -> Section:
    if listing is None:
        return Section("locks (in memory)", 0, (), [])
    columns = (">waiting", ">for", "held by")
    title = "locks" if listing.is_whole else "locks (waited for)"
    return Section(title, listing.held, columns, [_lock(lock) for lock in listing.locks])


def _lock(lock: HeldLock) -> list[Text]:
    holder = lock.holder
    if holder.process is not None:
        who = str(holder.process)
    else:
        who = f"session {holder.connection_id} {holder.user or ''}"
    return [
        cell_of(short_name(holder.name)),
        cell_of(str(len(lock.waiters)), style="yellow" if lock.waiters else "dim"),
        *(cell_of(since(holder.since) or "-"), cell_of(_cut(who, 30))),
    ]


def _dead(overview: Overview) -> Section:
    rows = [_dead_job(job) for job in overview.dead]
    return Section("dead", overview.total(JobStatus.DEAD), (">ago", ">id", "why"), rows)


def _dead_job(job: Job) -> list[Text]:
    reason = (job.reason or "").strip().partition("\n")[0]
    ago = since(job.finished_at or job.created_at) or "-"
    return [
        cell_of(job.task or "text"),
        cell_of(ago),
        cell_of(str(job.id)),
        cell_of(_cut(reason, 36)),
    ]


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
