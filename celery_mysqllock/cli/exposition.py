"""An overview in the text format of Prometheus, version 0.0.4."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from celery_mysqllock.jobs import JobStatus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from celery_mysqllock.cli.overview import Overview
    from celery_mysqllock.jobs import QueueStatus, ServerHealth
    from celery_mysqllock.locks.listing import Listing

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass
class Metric:
    """One metric and its samples.

    Attributes:
        name: Its name, with the unit.
        help: What it is.
        type: ``gauge`` or ``counter``.
        samples: Labels and values.
    """

    name: str
    help: str
    type: str = "gauge"
    samples: list[tuple[dict[str, str], float]] = field(default_factory=list)

    def add(self, value: float, **labels: str) -> Metric:
        """Add a sample."""
        self.samples.append((labels, value))
        return self

    def __str__(self) -> str:
        lines = [f"# HELP {self.name} {self.help}", f"# TYPE {self.name} {self.type}"]
        lines += [f"{self.name}{_labels(labels)} {value:.15g}" for labels, value in self.samples]
        return "".join(f"{line}\n" for line in lines)


def exposition(overview: Overview | None) -> str:
    """All metrics; that the server is down and nothing else when there is no overview."""
    up = Metric("mysqllock_up", "Whether the job table could be read.").add(overview is not None)
    metrics = [up]
    if overview is not None:
        metrics += [
            *_queues(overview.queues),
            _consumers(overview),
            *_locks(overview.locks),
            *_server(overview.server),
            Metric("mysqllock_read_seconds", "How long reading all this took.").add(
                overview.seconds
            ),
        ]
    return "".join(str(metric) for metric in metrics if metric.samples)


def _queues(queues: Iterable[QueueStatus]) -> list[Metric]:
    jobs = Metric("mysqllock_queue_jobs", "Jobs in the table, by queue and status.")
    age = Metric(
        "mysqllock_queue_oldest_ready_seconds",
        "For how long the job first in line has been ready; 0 when none is.",
    )
    ended = Metric(
        "mysqllock_queue_jobs_ended_total",
        "Jobs that were acknowledged or became dead.",
        "counter",
    )
    rate = Metric("mysqllock_queue_jobs_ended_per_second", "Jobs that ended, in the last minute.")
    paused = Metric("mysqllock_queue_paused", "Whether nobody claims from the queue.")
    for queue in queues:
        for status in JobStatus:
            jobs.add(getattr(queue, status.value), queue=queue.queue, status=status.value)
        age.add(queue.oldest_age or 0, queue=queue.queue)
        ended.add(queue.ended, queue=queue.queue)
        rate.add(queue.rate, queue=queue.queue)
        paused.add(queue.paused_at is not None, queue=queue.queue)
    return [jobs, age, ended, rate, paused]


def _consumers(overview: Overview) -> Metric:
    metric = Metric("mysqllock_consumers", "Consumers, by whether they live.")
    metric.add(overview.alive, state="alive")
    return metric.add(len(overview.consumers) - overview.alive, state="dead")


def _locks(listing: Listing | None) -> list[Metric]:
    if listing is None:
        return []
    return [
        Metric("mysqllock_locks_held", "Named locks that are held.").add(listing.held),
        Metric("mysqllock_locks_waited_for", "Held locks that somebody waits for.").add(
            listing.waited_for
        ),
        Metric("mysqllock_lock_waiters", "Sessions that wait for a lock.").add(listing.waiters),
        Metric(
            "mysqllock_locks_complete",
            "Whether the server lists all its locks to this user; else they are those of its own.",
        ).add(listing.is_whole),
    ]


def _server(health: ServerHealth) -> list[Metric]:
    info = Metric("mysqllock_server_info", "The server's kind and version.")
    history = Metric(
        "mysqllock_server_history_list_length",
        "Transactions whose old row versions are not purged.",
    )
    oldest = Metric(
        "mysqllock_server_oldest_transaction_seconds",
        "For how long the oldest open transaction has been; 0 when none is open.",
    )
    info.add(1, version=health.server)
    if health.history_list_length is not None:
        history.add(health.history_list_length)
    if health.knows_transactions:
        oldest.add(health.oldest_transaction.age if health.oldest_transaction else 0)
    return [info, history, oldest]


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
