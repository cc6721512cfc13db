"""The first page: the same as ``top``."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from celery_mysqllock.cli.overview import short_name
from celery_mysqllock.cli.tables import since, span
from celery_mysqllock.cli.web.markup import Markup, table, tag, together
from celery_mysqllock.cli.web.page import Reader, facts, page
from celery_mysqllock.jobs import JobStatus

if TYPE_CHECKING:
    from celery_mysqllock.cli.overview import Overview
    from celery_mysqllock.jobs import Job, QueueStatus, ServerHealth
    from celery_mysqllock.locks.listing import HeldLock, Listing

_REFRESH = 5  # seconds
_ROWS = 8  # jobs of a kind; the search shows more


def overview_page(
    overview: Overview, reader: Reader, notice: Markup | None, *, refreshes: bool = True
) -> str:
    """The page.

    Args:
        overview: What is shown.
        reader: Who looks.
        notice: What is to be read first.
        refreshes: Whether it asks again by itself.
    """
    toggle = (
        tag("a", "Stop refreshing", href="/?refresh=off")
        if refreshes
        else tag("a", f"Refresh every {_REFRESH} s", href="/")
    )
    moment = (
        f"Read at {overview.read_at:%Y-%m-%d %H:%M:%S} UTC in {overview.seconds * 1000:.0f} ms. "
    )
    return page(
        overview.address,
        _figures(overview),
        _queues(overview, reader),
        tag("div", _consumers(overview), _locks(overview.locks), class_="pair"),
        _running(overview),
        _dead(overview),
        _server(overview.server),
        reader=reader,
        path="/",
        notice=notice,
        footer=together(moment, toggle),
        refresh=_REFRESH if refreshes else None,
    )


def _figures(overview: Overview) -> Markup:
    dead = overview.total(JobStatus.DEAD)
    figures = {
        "jobs/s": f"{overview.rate:.1f}",
        "ready": overview.total(JobStatus.READY),
        "running": overview.total(JobStatus.RUNNING),
        "scheduled": overview.total(JobStatus.SCHEDULED),
        "dead": tag("span", dead, class_="bad" if dead else None),
        "consumers": overview.alive,
        "locks held": overview.locks.held if overview.locks else None,
        "lock waiters": overview.locks.waiters if overview.locks else None,
    }
    return tag(
        "dl",
        [
            tag("div", tag("dt", name), tag("dd", value))
            for name, value in figures.items()
            if value is not None
        ],
        class_="figures",
    )


def _queues(overview: Overview, reader: Reader) -> Markup:
    def count(queue: QueueStatus, status: JobStatus) -> object:
        number = getattr(queue, status.value)
        if not number:
            return tag("span", 0, class_="faint")
        limit = overview.count_limit
        more = "+" if limit is not None and number >= limit else ""
        target = urlencode({"queue": queue.queue, "status": status.value})
        kind = "bad" if status is JobStatus.DEAD else None
        return tag("a", f"{number}{more}", href=f"/jobs?{target}", class_=kind)

    def row(queue: QueueStatus) -> list[object]:
        paused = queue.paused_at and tag("span", f"paused {since(queue.paused_at)}", class_="warn")
        action = ("/queues/resume", "Resume") if paused else ("/queues/pause", "Pause")
        button = reader.form(*action, queue=queue.queue)
        return [
            together(queue.queue, " ", paused),
            *(count(queue, status) for status in statuses),
            *(span(queue.oldest_age) or "-", f"{queue.rate:.1f}"),
            *([button] if button else []),
        ]

    statuses = [status for status in JobStatus if status is not JobStatus.DONE]
    columns = [">" + status.value for status in statuses]
    action = ["action"] if reader.form_key else []
    rows = [row(queue) for queue in overview.queues]
    return table("Queues", ["queue", *columns, ">oldest", ">jobs/s", *action], rows)


def _consumers(overview: Overview) -> Markup:
    rows = [
        [
            consumer.name or consumer.identity[:12],
            tag("span", "alive", class_="good")
            if consumer.is_alive
            else tag("span", "dead", class_="bad"),
            *(consumer.claims, since(consumer.started_at) or "-", ", ".join(consumer.queues)),
        ]
        for consumer in overview.consumers
    ]
    return table("Consumers", ["consumer", "state", ">claims", ">since", "queues"], rows)


def _running(overview: Overview) -> Markup:
    rows = [
        [_linked(job), job.queue, since(job.claimed_at) or "-", job.consumer or "-"]
        for job in overview.running[:_ROWS]
    ]
    columns = ["task", "queue", ">for", "consumer"]
    return table("Running the longest", columns, rows, _all(JobStatus.RUNNING))


def _dead(overview: Overview) -> Markup:
    rows = [
        [
            *(_linked(job), job.queue, since(job.finished_at or job.created_at) or "-"),
            first_line(job.reason),
        ]
        for job in overview.dead[:_ROWS]
    ]
    return table("Dead", ["task", "queue", ">ago", "why"], rows, _all(JobStatus.DEAD))


def _all(status: JobStatus) -> Markup:
    return tag("a", "all", href=f"/jobs?status={status.value}")


def _linked(job: Job) -> Markup:
    return tag("a", job.task or f"job {job.id}", href=f"/jobs/{job.id}")


def first_line(text: str | None) -> str:
    """The first line of a reason, which names the error."""
    return (text or "").strip().partition("\n")[0]


def _locks(listing: Listing | None) -> Markup | None:
    if listing is None:
        return None
    rows = [_lock(lock) for lock in listing.locks]
    caption = "Locks" if listing.is_whole else "Locks that this user may see"
    return table(caption, ["lock", ">waiting", ">for", "held by"], rows)


def _lock(lock: HeldLock) -> list[object]:
    holder = lock.holder
    who = holder.process or f"session {holder.connection_id} of {holder.user or '?'}"
    waiting = tag("span", len(lock.waiters), class_="warn" if lock.waiters else "faint")
    name = tag("span", short_name(holder.name), title=holder.name)
    return [name, waiting, since(holder.since) or "-", who]


def _server(health: ServerHealth) -> Markup:
    unknown = "unknown: needs the privilege PROCESS"
    history: object = unknown
    if health.history_list_length is not None:
        history = f"{health.history_list_length} transactions are not purged"
    oldest: object = "none is open" if health.knows_transactions else unknown
    if (transaction := health.oldest_transaction) is not None:
        who = f"session {transaction.connection_id} of {transaction.user or '?'}"
        oldest = f"open for {span(transaction.age)}, {who} from {transaction.host or '?'}"
    pairs = {"version": health.server, "history list": history, "oldest transaction": oldest}
    return tag("section", tag("h2", "Server"), facts(pairs))
