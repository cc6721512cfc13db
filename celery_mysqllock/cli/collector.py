"""The fleet as a collector of prometheus-client."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from celery_mysqllock.cli.overview import OverviewReader
from celery_mysqllock.exceptions import MySQLLockError
from celery_mysqllock.jobs import JobStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client import Metric

    from celery_mysqllock.cli.deployment import Deployment
    from celery_mysqllock.cli.overview import Overview
    from celery_mysqllock.jobs import QueueStatus, ServerHealth
    from celery_mysqllock.locks.listing import Listing


class FleetCollector(Collector):
    """Reads the fleet at each scrape. If that fails, it yields mysqllock_up 0 and nothing else.

    Args:
        deployment: The deployment to read.
        idle_after: Seconds after which an idle queue is left out, as in ``IdleFilter``.
        on_error: Called with the error when the fleet cannot be read.
    """

    def __init__(
        self,
        deployment: Deployment,
        *,
        idle_after: float,
        on_error: Callable[[MySQLLockError], object],
    ) -> None:
        # a gauge that stops at a limit would be wrong
        self._reader = OverviewReader(deployment, rows=0, count_limit=None)
        self._idle = IdleFilter(idle_after)
        self._on_error = on_error

    def describe(self) -> Iterable[Metric]:
        """Return nothing, so that registering the collector does not read the fleet."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Read the fleet and yield all metrics."""
        overview = None
        try:
            overview = self._idle.apply(self._reader.read())
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

    def close(self) -> None:
        """Close the sessions with the server."""
        self._reader.close()


class IdleFilter:
    """Removes queues without jobs, consumers, pause and ended jobs: mostly those of past tenants.

    Thread-safe.

    Args:
        idle_after: Seconds for which it must have seen a queue idle before it removes it.
        clock: Returns the time in seconds.
    """

    def __init__(self, idle_after: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._idle_after = idle_after
        self._clock = clock
        self._mutex = threading.Lock()
        self._idle: dict[str, tuple[int, float]] = {}

    def apply(self, overview: Overview) -> Overview:
        """Return the overview without the idle queues."""
        now = self._clock()
        served = {queue for one in overview.consumers if one.is_alive for queue in one.queues}
        with self._mutex:
            return replace(overview, queues=self._among(overview.queues, served, now))

    def _among(
        self, queues: Iterable[QueueStatus], served: set[str], now: float
    ) -> list[QueueStatus]:
        before, self._idle = self._idle, {}
        used = []
        for queue in queues:
            since = now
            if _is_empty(queue) and queue.queue not in served:
                ended, seen = before.get(queue.queue, (queue.ended, now))
                since = seen if ended == queue.ended else now
                self._idle[queue.queue] = queue.ended, since
                if now - since >= self._idle_after:
                    continue
            used.append(queue)
        return used


def _is_empty(queue: QueueStatus) -> bool:
    has_jobs = any(getattr(queue, status.value) for status in JobStatus)
    return not has_jobs and queue.paused_at is None


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
        "For how long the job that is claimed next has been ready; 0 if there is none.",
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
        "mysqllock_queue_paused", "Whether the queue is paused.", labels=("queue",)
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
        "mysqllock_consumers",
        "Consumers that take jobs, by whether they are alive.",
        labels=("state",),
    )
    found.add_metric(["alive"], overview.alive)
    found.add_metric(["dead"], len(overview.workers) - overview.alive)
    return found


def _locks(listing: Listing | None) -> Iterator[Metric]:
    if listing is None:
        return
    yield _gauge("mysqllock_locks_held", "Named locks that are held.", listing.held)
    yield _gauge(
        "mysqllock_locks_waited_for", "Held locks that sessions wait for.", listing.waited_for
    )
    yield _gauge("mysqllock_lock_waiters", "Sessions that wait for a lock.", listing.waiters)
    yield _gauge(
        "mysqllock_locks_complete",
        "Whether the server lists all locks to this user, or only those that sessions wait for.",
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
            "The age of the oldest open transaction; 0 if none is open.",
            health.oldest_transaction.age if health.oldest_transaction else 0,
        )
