"""What ``top``, ``metrics`` and ``web`` show, read over sessions that stay open."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from celery_mysqllock.app import lock_address
from celery_mysqllock.exceptions import MySQLLockError
from celery_mysqllock.jobs import (
    COUNT_LIMIT,
    Inspection,
    JobStatus,
    LockNames,
    Migrations,
    Selection,
)
from celery_mysqllock.locks.listing import Listing, list_locks
from celery_mysqllock.mysql import Session, is_own_lock

if TYPE_CHECKING:
    from celery_mysqllock.cli.deployment import Deployment
    from celery_mysqllock.jobs import ConsumerStatus, Job, QueueStatus, ServerHealth
    from celery_mysqllock.mysql import Address

# Seconds without an answer after which a server counts as lost.
_READ_TIMEOUT = 10.0


@dataclass(frozen=True)
class Overview:
    """A fleet at one moment.

    Attributes:
        read_at: When, on this machine's clock, in UTC.
        address: Host, port and database.
        queues: Each queue, by name.
        consumers: Each consumer, by name.
        running: Claimed jobs, the longest claimed first.
        dead: Dead jobs by queue, the newest first.
        locks: The locks of the namespace, those with most waiters first; None if they are in
            memory.
        server: What slows claims down.
        count_limit: The count at which counting stopped, None for no limit.
        seconds: How long reading took.
    """

    read_at: datetime
    address: str
    queues: list[QueueStatus]
    consumers: list[ConsumerStatus]
    running: list[Job]
    dead: list[Job]
    locks: Listing | None
    server: ServerHealth
    count_limit: int | None
    seconds: float

    @property
    def rate(self) -> float:
        """Jobs that ended per second, in the last minute."""
        return sum(queue.rate for queue in self.queues)

    @property
    def workers(self) -> list[ConsumerStatus]:
        """The consumers that claim jobs."""
        return [consumer for consumer in self.consumers if consumer.is_worker]

    @property
    def alive(self) -> int:
        """How many consumers that claim jobs are alive."""
        return sum(consumer.is_alive for consumer in self.workers)

    def total(self, status: JobStatus) -> int:
        """How many jobs of all queues have that status."""
        return sum(getattr(queue, status.value) for queue in self.queues)


class OverviewReader:
    """Reads overviews over sessions that stay open, and opens new ones when they are lost.

    Thread-safe: one thread reads, and the others wait for its result.

    Args:
        deployment: What is read.
        rows: Most running jobs, dead jobs of each queue, and locks to read.
        count_limit: The count at which counting a queue's jobs stops, None for no limit.
    """

    def __init__(
        self, deployment: Deployment, *, rows: int = 20, count_limit: int | None = COUNT_LIMIT
    ) -> None:
        self._deployment = deployment
        self._rows = rows
        self._count_limit = count_limit
        self._mutex = threading.Lock()
        self._jobs: Session | None = None
        self._locks: Session | None = None
        self._last: Overview | MySQLLockError | None = None
        self._begun = self._ended = 0.0

    def close(self) -> None:
        """Close the sessions."""
        sessions, self._jobs, self._locks = {self._jobs, self._locks}, None, None
        for session in sessions:
            if session is not None:
                session.close()

    def read(self, max_age: float = 0.0) -> Overview:
        """Read the fleet, or return what was read at most ``max_age`` seconds ago.

        Threads that wait while another one reads share the result of the next read.

        Raises:
            MySQLLockError: The server does not answer, or something is missing. The next call
                tries again.
        """
        asked = time.monotonic()
        with self._mutex:
            is_fresh = isinstance(self._last, Overview) and asked - self._ended < max_age
            if self._last is None or not (is_fresh or self._begun >= asked):
                self._begun = time.monotonic()
                try:
                    self._last = self._read()
                except MySQLLockError as error:
                    self.close()
                    self._last = error
                self._ended = time.monotonic()
            if isinstance(self._last, MySQLLockError):
                raise self._last
            return self._last

    def _read(self) -> Overview:
        begun = time.monotonic()
        jobs = self._open()
        inspection = Inspection(jobs, self._deployment.settings.table)
        queues = inspection.queues(self._count_limit)
        return Overview(
            read_at=datetime.now(UTC),
            address=_brief(jobs.address),
            queues=queues,
            consumers=inspection.consumers(),
            running=inspection.running(self._rows),
            dead=self._dead(inspection, queues),
            locks=self._list_locks(),
            server=inspection.server(),
            count_limit=self._count_limit,
            seconds=time.monotonic() - begun,
        )

    def _dead(self, inspection: Inspection, queues: list[QueueStatus]) -> list[Job]:
        return [
            job
            for queue in queues
            if queue.dead
            for job in inspection.jobs(Selection(queue.queue, JobStatus.DEAD), self._rows)
        ][: self._rows]

    def _list_locks(self) -> Listing | None:
        if self._locks is None:
            return None
        namespace = self._deployment.locks.namespace or self._locks.database
        # of the broker's own locks only the beat's: the consumers show the others
        beat = LockNames.of(self._locks, self._deployment.settings.table).beat
        return list_locks(self._locks, namespace, also={beat}, limit=self._rows)

    def _open(self) -> Session:
        if self._jobs is None or not self._jobs.is_open:
            self._jobs = self._deployment.open_session(read_timeout=_READ_TIMEOUT)
            Migrations(self._jobs, self._deployment.settings.table).check()
        address = lock_address(self._deployment.locks)
        if address is not None and (self._locks is None or not self._locks.is_open):
            shared = address == self._jobs.address
            self._locks = (
                self._jobs if shared else Session(address, read_timeout=_READ_TIMEOUT).open()
            )
        return self._jobs


def _brief(address: Address) -> str:
    server = address.unix_socket or f"{address.host}:{address.port}"
    return f"{server}/{address.database}"


def short_name(lock: str) -> str:
    """A lock's name for people, without namespace and hash."""
    if is_own_lock(lock):
        return lock.rpartition(":")[2]
    readable, mark, _ = lock.partition("~")
    return (readable.partition(":")[2] or readable) + ("…" if mark else "")
