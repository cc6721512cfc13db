"""An overview as metrics of prometheus-client, for ``metrics`` and for exporters of others."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from celery_mysqllock.cli.deployment import Deployment
from celery_mysqllock.cli.idle import InUse
from celery_mysqllock.cli.overview import Watch
from celery_mysqllock.exceptions import MySQLLockError
from celery_mysqllock.jobs import JobStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from celery import Celery
    from prometheus_client import Metric

    from celery_mysqllock.cli.overview import Overview
    from celery_mysqllock.jobs import QueueStatus, ServerHealth
    from celery_mysqllock.locks.listing import Listing

logger = logging.getLogger(__name__)
_DAY = 86_400


class FleetCollector(Collector):
    """Reads the fleet at each scrape. While it cannot, mysqllock_up is 0 and all else is missing.

    Args:
        read: Reads it.
        on_error: Is told why it could not be read.
    """

    def __init__(
        self, read: Callable[[], Overview], on_error: Callable[[MySQLLockError], object]
    ) -> None:
        self._read = read
        self._on_error = on_error

    def describe(self) -> Iterable[Metric]:
        """Nothing: to register it reads nothing."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All metrics."""
        overview = None
        try:
            overview = self._read()
        except MySQLLockError as error:
            self._on_error(error)
        yield _gauge("mysqllock_up", "Whether the job table could be read.", overview is not None)
        if overview is not None:
            yield from _queues(overview.queues)
            yield _consumers(overview)
            yield from _locks(overview.locks)
            yield from _server(overview.server)
            yield _gauge(
                "mysqllock_read_seconds", "How long reading all this took.", overview.seconds
            )


def fleet_collector(app: Celery, *, idle_after: float = _DAY) -> FleetCollector:
    """A collector for a registry of one's own: the fleet of an application's broker.

    Args:
        app: The application.
        idle_after: Seconds after which a queue that is empty and without consumers is left out, as
            far as the collector has seen.
    """
    watch, in_use = Watch(Deployment(app), rows=0, count_limit=None), InUse(idle_after)

    def read() -> Overview:
        return in_use.of(watch.read())

    return FleetCollector(read, lambda error: logger.warning("%s", error))


def _gauge(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(name, documentation, value=float(value))


def _queues(queues: Iterable[QueueStatus]) -> Iterator[Metric]:
    jobs = GaugeMetricFamily(
        "mysqllock_queue_jobs",
        "Jobs in the table, by queue and status.",
        labels=("queue", "status"),
    )
    age = GaugeMetricFamily(
        "mysqllock_queue_oldest_ready_seconds",
        "For how long the job first in line has been ready; 0 when none is.",
        labels=("queue",),
    )
    ended = CounterMetricFamily(
        "mysqllock_queue_jobs_ended",
        "Jobs that were acknowledged or became dead.",
        labels=("queue",),
    )
    rate = GaugeMetricFamily(
        "mysqllock_queue_jobs_ended_per_second",
        "Jobs that ended, in the last minute.",
        labels=("queue",),
    )
    paused = GaugeMetricFamily(
        "mysqllock_queue_paused", "Whether nobody claims from the queue.", labels=("queue",)
    )
    for queue in queues:
        name = [queue.queue]
        for status in JobStatus:
            jobs.add_metric([*name, status.value], getattr(queue, status.value))
        age.add_metric(name, queue.oldest_age or 0)
        ended.add_metric(name, queue.ended)
        rate.add_metric(name, queue.rate)
        paused.add_metric(name, queue.paused_at is not None)
    yield from (jobs, age, ended, rate, paused)


def _consumers(overview: Overview) -> Metric:
    found = GaugeMetricFamily(
        "mysqllock_consumers", "Consumers that take jobs, by whether they live.", labels=("state",)
    )
    found.add_metric(["alive"], overview.alive)
    found.add_metric(["dead"], len(overview.workers) - overview.alive)
    return found


def _locks(listing: Listing | None) -> Iterator[Metric]:
    if listing is None:
        return
    yield _gauge("mysqllock_locks_held", "Named locks that are held.", listing.held)
    yield _gauge(
        "mysqllock_locks_waited_for", "Held locks that somebody waits for.", listing.waited_for
    )
    yield _gauge("mysqllock_lock_waiters", "Sessions that wait for a lock.", listing.waiters)
    yield _gauge(
        "mysqllock_locks_complete",
        "Whether the server lists all its locks to this user; else they are those of its own.",
        listing.is_whole,
    )


def _server(health: ServerHealth) -> Iterator[Metric]:
    info = GaugeMetricFamily(
        "mysqllock_server_info", "The server's kind and version.", labels=("version",)
    )
    info.add_metric([health.server], 1)
    yield info
    if health.history_list_length is not None:
        yield _gauge(
            "mysqllock_server_history_list_length",
            "Transactions whose old row versions are not purged.",
            health.history_list_length,
        )
    if health.knows_transactions:
        yield _gauge(
            "mysqllock_server_oldest_transaction_seconds",
            "For how long the oldest open transaction has been; 0 when none is open.",
            health.oldest_transaction.age if health.oldest_transaction else 0,
        )
