"""The ledger: a table with the worker, start and end of each run, by the server's clock."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from example_proj.database import connect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

_CREATE = """
    CREATE TABLE ledger (
        id         INT AUTO_INCREMENT PRIMARY KEY,
        scene      CHAR(1)     NOT NULL,
        job        INT         NOT NULL,
        worker     VARCHAR(16) NOT NULL,
        started_at DATETIME(6) NOT NULL,
        ended_at   DATETIME(6) NULL,
        KEY (scene, ended_at)
    )"""
_BEGIN = "INSERT INTO ledger (scene, job, worker, started_at) VALUES (%s, %s, %s, NOW(6))"
_END = "UPDATE ledger SET ended_at = NOW(6) WHERE id = %s"
_COUNT = "SELECT COUNT(*) FROM ledger WHERE scene = %s AND ended_at IS NOT NULL"
_RUNS = "SELECT job, worker, started_at, ended_at FROM ledger WHERE scene = %s ORDER BY started_at"


class Run(NamedTuple):
    """One run of a job.

    Attributes:
        job: The job's number in its scene.
        worker: Which worker ran it.
        started: When it began.
        ended: When it ended; None while it runs, and for ever when its worker was killed.
    """

    job: int
    worker: str
    started: datetime
    ended: datetime | None


class Row(NamedTuple):
    """One row of the job table that some consumer has claimed.

    Attributes:
        owner: The consumer.
        job: The job's number in its scene.
    """

    owner: str
    job: int


class Ledger:
    """The ledger of one database, and the demo's queries of the job table.

    Args:
        url: The database.
    """

    def __init__(self, url: str) -> None:
        self._connection = connect(url, autocommit=True)

    def create(self) -> None:
        """Make the table."""
        self._query(_CREATE)

    @contextmanager
    def run(self, scene: str, job: int, worker: str) -> Iterator[None]:
        """Write down when the block begins and when it has ended, unless it fails."""
        with self._connection.cursor() as cursor:
            cursor.execute(_BEGIN, (scene, job, worker))
            entry = cursor.lastrowid
        yield
        self._query(_END, entry)

    def count(self, scene: str) -> int:
        """How many runs of the scene have ended."""
        return int(self._query(_COUNT, scene)[0][0])

    def runs(self, scene: str) -> list[Run]:
        """All runs of the scene, the first begun first."""
        return [Run(*row) for row in self._query(_RUNS, scene)]

    def now(self) -> datetime:
        """The server's clock."""
        time: datetime = self._query("SELECT NOW(6)")[0][0]
        return time

    def version(self) -> str:
        """The server's version."""
        return str(self._query("SELECT VERSION()")[0][0]).partition("-")[0]

    def jobs(self) -> int:
        """How many rows the job table has, whatever their status."""
        return int(self._query("SELECT COUNT(*) FROM jobs")[0][0])

    def claimed(self) -> list[Row]:
        """The claimed jobs that are not acknowledged; all of them were sent by ``delay()``."""
        rows = self._query("SELECT owner, message FROM jobs WHERE job_status = 1")
        # the message's body is [args, kwargs, options], and args begin with scene and job
        return [Row(owner, json.loads(message)["body"][0][1]) for owner, message in rows]

    def _query(self, sql: str, *values: object) -> tuple[tuple[Any, ...], ...]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, values)
            return cursor.fetchall()
