"""Looks at jobs, queues, consumers and the server, and changes nothing."""

from __future__ import annotations

import dataclasses
import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from celery_mysqllock.exceptions import MissingPrivilege
from celery_mysqllock.jobs.ephemeral import table_names
from celery_mysqllock.jobs.job import HIGHEST_PRIORITY
from celery_mysqllock.jobs.lock_names import LockNames
from celery_mysqllock.jobs.records import (
    ConsumerStatus,
    Job,
    JobStatus,
    OpenTransaction,
    QueueStatus,
    ScheduledJob,
    Selection,
    ServerHealth,
)
from celery_mysqllock.mysql import Statements, free_among
from celery_mysqllock.settings import check_identifier

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from celery_mysqllock.mysql import Session

#: Where counting stops unless more is asked for: some milliseconds for each count.
COUNT_LIMIT = 100_000
_NO_LIMIT = 2**63 - 1
# Of scheduled jobs: how many are looked at, and the bytes of a message that is not shown.
_LOOKED_AT, _LARGE = 10_000, 65_536
# How each status is written in a row, and how its jobs are found and ordered.
_STATUSES = {
    JobStatus.RUNNING: (1, "claimed"),
    JobStatus.READY: (0, "in_line"),
    JobStatus.SCHEDULED: (2, "in_line"),
    JobStatus.WAITING: (4, "in_line"),
    JobStatus.DEAD: (3, "unowned"),
    JobStatus.DONE: (1, "unowned"),
}
_BY_NUMBER = {
    number: status for status, (number, _) in _STATUSES.items() if status != JobStatus.RUNNING
}


class Inspection:
    """A look at a job table and its server, through one session.

    Args:
        session: An open session.
        table: The job table's name.
        names: The names of the table's locks; None asks the server for them.

    Raises:
        SettingsError: The table's name is none.
    """

    def __init__(
        self, session: Session, table: str = "jobs", *, names: LockNames | None = None
    ) -> None:
        name = check_identifier("table", table)
        self._session = session
        self._names = LockNames.of(session, name) if names is None else names
        self._sql = Statements(__package__, "inspection.sql", jobs=name, **table_names(name))

    # -- queues -----------------------------------------------------------------------------------

    def queues(self, count_limit: int | None = COUNT_LIMIT) -> list[QueueStatus]:
        """Each queue that has jobs, was declared or is paused, by name.

        Args:
            count_limit: Where the counting of a queue's jobs stops, None to count all: about 0.1
                seconds for a million.
        """
        named = self._session.query(self._sql["queues"])
        claims = dict(self._session.query(self._sql["claims"]))
        ages = dict(self._session.query(self._sql["oldest"]))
        ended = {name: more for name, *more in self._session.query(self._sql["ended"])}
        found = []
        for name, paused_at in named:
            values = {"queue": name, "limit": count_limit or _NO_LIMIT}
            (counts,) = self._session.query(self._sql["counts"], values)
            ready, scheduled, waiting, dead, dequeued = map(int, counts)
            running = int(claims.get(name, 0))
            rate, total = ended.get(name, (0, 0))
            found.append(
                QueueStatus(
                    name,
                    ready=ready,
                    scheduled=scheduled,
                    waiting=waiting,
                    running=running,
                    dead=dead,
                    done=max(0, dequeued - running),
                    oldest_age=_number(ages.get(name)),
                    rate=float(rate),
                    ended=int(total),
                    paused_at=_utc(paused_at),
                )
            )
        return found

    # -- jobs -------------------------------------------------------------------------------------

    def jobs(self, selection: Selection | None = None, limit: int = 50) -> list[Job]:
        """Jobs of the selection, queue by queue and status by status.

        Within these the next in line come first; of the dead and the done the last stored.

        Args:
            selection: Which ones, None for any.
            limit: Most jobs to return.
        """
        found = self._select("jobs", selection or Selection(), limit)
        return [self._job(row) for row in found]

    def running(self, limit: int) -> list[Job]:
        """Jobs of all queues that consumers have, those claimed first in front."""
        found = self._session.query(self._joined("jobs", "running", "claimed"), {"limit": limit})
        return [self._job(row) for row in found]

    def next_due(self, queues: Collection[str], limit: int) -> list[ScheduledJob]:
        """The scheduled jobs of these queues that are due next, the first in front.

        What comes after the first 10,000 scheduled jobs of all queues is not looked at.
        """
        if not queues:
            return []
        found = self._session.query(
            self._sql["next_due"],
            {"queues": list(queues), "limit": limit, "most": _LOOKED_AT, "bytes": _LARGE},
        )
        return [
            ScheduledJob(
                id=job_id,
                message=message,
                queue=queue,
                task_id=task_id,
                priority=HIGHEST_PRIORITY - claim_order,
                due_at=due_at.replace(tzinfo=UTC),
                created_at=created_at,
            )
            for job_id, message, queue, task_id, claim_order, due_at, created_at in found
        ]

    def ids(self, selection: Selection, limit: int | None = None) -> list[int]:
        """The ids of all jobs of the selection, as in ``jobs``."""
        return [job_id for job_id, _ in self._select("ids", selection, limit or _NO_LIMIT)]

    def find(self, sought: str) -> list[Job]:
        """The jobs of that row id, or else of that task id, with their messages.

        A task that is retried has the same id in several rows. Task ids are not indexed: looking
        for one reads the whole table.
        """
        part = "with_id" if sought.isascii() and sought.isdigit() else "with_task_id"
        rows = self._session.query(self._joined("jobs", part), {"sought": sought})
        found = [self._job(row) for row in rows]
        return [
            dataclasses.replace(job, message=self._message(job.id))
            for job in found
            # what only Python reads was looked for as a text
            if part == "with_id" or (job.task_id or "").casefold() == sought.casefold()
        ]

    def _joined(self, *parts: str) -> str:
        is_deep = "FALSE" if self._session.server.is_mariadb else self._sql["is_deep"]
        statement = " ".join(self._sql[part] for part in parts)
        statement = statement.replace("%(is_pythons)s", self._sql["is_pythons"])
        return statement.replace("%(is_deep)s", is_deep)

    def _job(self, row: tuple[Any, ...]) -> Job:
        job = _job(row[:-1])
        if not row[-1]:
            return job
        task, task_id = _names_in(self._message(job.id))
        return dataclasses.replace(job, task=task, task_id=job.task_id or task_id)

    def _message(self, job_id: int) -> str | None:
        message = self._session.value(self._sql["message"], {"id": job_id})
        return None if message is None else str(message)

    def _select(self, what: str, selection: Selection, limit: int) -> Iterator[tuple[Any, ...]]:
        queues = [selection.queue] if selection.queue is not None else self._queue_names()
        statuses = [selection.status] if selection.status is not None else list(_STATUSES)
        for queue in queues:
            for status in statuses:
                number, order = _STATUSES[status]
                values = {
                    "queue": queue,
                    "job_status": number,
                    "seconds": selection.older_than,
                    "task": selection.task,
                    "task_in_json": None if selection.task is None else json.dumps(selection.task),
                    "limit": limit,
                }
                statement = self._joined(what, "selected", order)
                found = self._session.query(statement, values) if limit else []
                found = [row for row in found if self._is_of(row, selection.task)]
                limit -= len(found)
                yield from found

    def _is_of(self, row: tuple[Any, ...], task: str | None) -> bool:
        """Whether the row is the task's: what only Python reads was looked for as a text."""
        return task is None or not row[-1] or _names_in(self._message(row[0]))[0] == task

    def _queue_names(self) -> list[str]:
        return [name for name, _ in self._session.query(self._sql["queues"])]

    # -- consumers and the server -----------------------------------------------------------------

    def consumers(self) -> list[ConsumerStatus]:
        """Each consumer on the list or with claims, by name, save dead ones that only listened.

        They have left nothing to be cared for, and are on the list until a worker tidies up.
        """
        rows = self._session.query(self._sql["consumers"])
        locks = {row[0]: self._names.consumer(row[0]) for row in rows}
        free = set(free_among(self._session, list(locks.values())))
        found = [
            ConsumerStatus(
                identity=identity,
                name=name,
                queues=_queues(queues),
                is_alive=locks[identity] not in free,
                claims=int(claims),
                started_at=_utc(started_at),
                is_worker=_takes_jobs(name, queues, claims),
            )
            for identity, name, queues, claims, started_at in rows
        ]
        return [consumer for consumer in found if consumer.is_worker or consumer.is_alive]

    def server(self) -> ServerHealth:
        """What on the server slows claims down, as far as the user may know it."""
        kind = "mariadb" if self._session.server.is_mariadb else "mysql"
        history: int | None = None
        with suppress(MissingPrivilege):
            history = int(self._session.value(self._sql[f"history_of_{kind}"]))
        oldest: OpenTransaction | None = None
        try:
            rows = self._session.query(self._sql["open_transaction"])
        except MissingPrivilege:
            return ServerHealth(str(self._session.server), history, None, knows_transactions=False)
        for age, connection_id, user, host in rows:
            oldest = OpenTransaction(float(age), int(connection_id), user, host)
        return ServerHealth(str(self._session.server), history, oldest, knows_transactions=True)


def _takes_jobs(name: str | None, queues: str | None, claims: int) -> bool:
    """Whether a consumer takes jobs, or is a Celery node that is about to: ``celery@host``."""
    return bool(claims or _queues(queues) or "@" in (name or ""))


def _names_in(message: str | None) -> tuple[str | None, str | None]:
    """The task that a message names, and its id."""
    try:
        content = json.loads(message or "")
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        return None, None
    headers = content.get("headers")
    if not isinstance(headers, dict):
        headers = {}
    task, task_id = headers.get("task", content.get("task")), headers.get("id")
    return (
        task if isinstance(task, str) else None,
        task_id if isinstance(task_id, str) else None,
    )


def _job(row: tuple[Any, ...]) -> Job:
    job_id, queue, number, owner, task, task_id, claim_order, deliveries, *rest = row
    *times, consumer, reason = rest
    created_at, ready_at, due_at, expires_at, claimed_at, finished_at = map(_utc, times)
    is_running = number == _STATUSES[JobStatus.RUNNING][0] and owner is not None
    return Job(
        id=job_id,
        queue=queue,
        # no program acts on an unknown status, just as on a job that is done
        status=JobStatus.RUNNING if is_running else _BY_NUMBER.get(number, JobStatus.DONE),
        task=task,
        task_id=task_id,
        priority=HIGHEST_PRIORITY - claim_order,
        deliveries=deliveries,
        created_at=created_at or datetime.min.replace(tzinfo=UTC),
        ready_at=ready_at,
        due_at=due_at,
        expires_at=expires_at,
        claimed_at=claimed_at,
        finished_at=finished_at,
        consumer=consumer,
        reason=reason,
    )


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=UTC)


def _number(value: Any) -> float | None:  # noqa: ANN401 - a Decimal of the driver
    return None if value is None else float(value)


def _queues(text: str | None) -> tuple[str, ...]:
    try:
        found = json.loads(text or "[]")
    except (ValueError, RecursionError):
        # written by hand
        return ()
    return tuple(map(str, found)) if isinstance(found, list) else ()
