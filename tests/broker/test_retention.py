"""Finished jobs stay for as long as ``retention`` says, and no longer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.jobs import JobTable
from tests.broker.app import note
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_mysqllock.mysql import Session
    from tests.broker.worker import Worker

StartWorker = "Callable[..., Worker]"
FINISHED = "SELECT COUNT(*) FROM jobs WHERE job_status = 1 AND finished_at IS NOT NULL"


@pytest.mark.usefixtures("producer_url")
def test_a_finished_job_stays_as_dequeued_with_the_time_and_goes_when_retention_is_over(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    worker = start_worker(BROKER_OPTIONS='{"retention": "2s"}')
    note.delay("one")
    eventually(lambda: session.value(FINISHED) == 1)
    # nobody's any more, so that it is not taken for a dead worker's
    assert session.query("SELECT owner, deliveries FROM jobs") == [(None, 1)]
    assert session.value("SELECT finished_at >= claimed_at AND claimed_at >= created_at FROM jobs")
    eventually(lambda: session.query("SELECT id FROM jobs") == [])
    assert session.query("SELECT entry FROM ledger") == [("one",)]
    assert worker.stop() == 0


@pytest.mark.usefixtures("producer_url")
def test_only_what_is_older_than_the_retention_goes(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    start_worker(BROKER_OPTIONS='{"retention": "7d"}')
    note.delay("kept")
    eventually(lambda: session.value(FINISHED) == 1)
    for days in (6, 8):
        session.execute(
            "INSERT INTO jobs (message, job_status, finished_at) "
            "VALUES (%s, 1, CURRENT_TIMESTAMP(6) - INTERVAL %s DAY)",
            (f"{days} days", days),
        )
    dead = "INSERT INTO jobs (message, job_status, finished_at) VALUES ('dead', 3, '2020-01-01')"
    session.execute(dead)
    eventually(lambda: session.value(FINISHED) == 2)
    messages = [row[0] for row in session.query("SELECT message FROM jobs ORDER BY id")]
    assert messages[1:] == ["6 days", "dead"]
    assert '"kept"' in messages[0]


def test_finished_jobs_go_in_small_batches(session: Session) -> None:
    session.execute(
        "INSERT INTO jobs (message, job_status, finished_at) "
        "SELECT 'x', 1, CURRENT_TIMESTAMP(6) - INTERVAL 1 HOUR "
        "FROM information_schema.columns LIMIT 900"
    )
    session.execute(
        "INSERT INTO jobs (message, job_status, finished_at) SELECT message, 1, "
        "finished_at FROM jobs"
    )
    session.execute(
        "INSERT INTO jobs (message, job_status, finished_at) VALUES ('x', 1, CURRENT_TIMESTAMP(6))"
    )
    jobs = JobTable(session)
    assert [jobs.maintenance.remove_finished(60) for _ in range(3)] == [1000, 800, 0]
    assert session.value(FINISHED) == 1
