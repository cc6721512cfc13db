"""How many jobs end is counted without a transaction more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.jobs import (
    EphemeralQueues,
    Inspection,
    JobTable,
    Migrations,
    NewJob,
    Throughput,
)

if TYPE_CHECKING:
    from celery_mysqllock.mysql import Session

ME = "a" * 32
WRITTEN = "SELECT COALESCE(SUM(ended), 0) FROM jobs_throughput"


@pytest.fixture
def now() -> list[float]:
    """The time, in seconds; a test moves it on."""
    return [0.0]


@pytest.fixture
def throughput(now: list[float]) -> Throughput:
    return Throughput(lambda: now[0])


@pytest.fixture
def jobs(session: Session, throughput: Throughput) -> JobTable:
    Migrations(session).apply()
    return JobTable(session, throughput=throughput)


def end_one(jobs: JobTable, queue: str = "q") -> None:
    jobs.publisher.put(NewJob(queue, "x"))
    (job,) = jobs.claims.claim(queue, 1, ME)
    jobs.claims.ack([job.id], ME)


def test_a_job_that_ends_is_counted_with_its_own_end(jobs: JobTable, session: Session) -> None:
    end_one(jobs)
    assert session.query("SELECT queue, consumer, ended FROM jobs_throughput") == [("q", ME, 1)]
    assert session.value(
        "SELECT TIMESTAMPDIFF(SECOND, minute, UTC_TIMESTAMP()) BETWEEN 0 AND 60 "
        "AND SECOND(minute) = 0 FROM jobs_throughput"
    )


def test_what_follows_at_once_is_written_a_second_later_and_an_idle_consumer_writes_nothing(
    jobs: JobTable, session: Session, throughput: Throughput, now: list[float]
) -> None:
    end_one(jobs)
    for queue in ("q", "other"):
        end_one(jobs, queue)
    jobs.claims.keep_alive(ME)
    assert session.value(WRITTEN) == 1
    now[0] += 1
    jobs.claims.keep_alive(ME)
    assert session.value(WRITTEN) == 3
    assert not throughput.is_pending


def test_what_goes_back_is_not_counted_and_what_dies_is_counted_once(
    jobs: JobTable, session: Session, now: list[float]
) -> None:
    job_id = jobs.publisher.put(NewJob("q", "x"))
    jobs.claims.claim("q", 1, ME)
    jobs.claims.release([job_id], ME)
    assert session.value(WRITTEN) == 0
    jobs.claims.claim("q", 1, ME)
    jobs.claims.bury(job_id, ME, "why")
    now[0] += 1
    jobs.claims.bury(job_id, ME, "a better reason")
    jobs.claims.keep_alive(ME)
    assert session.value(WRITTEN) == 1


@pytest.mark.usefixtures("jobs")
def test_the_rate_is_of_the_last_minute(session: Session) -> None:
    EphemeralQueues(session).declare_durable("q")
    inspection = Inspection(session)

    def ended(jobs: int, minutes_ago: int) -> None:
        session.execute(
            "INSERT INTO jobs_throughput (queue, minute, consumer, ended) "
            "SELECT 'q', t - INTERVAL SECOND(t) SECOND, %s, %s "
            "FROM (SELECT UTC_TIMESTAMP() - INTERVAL %s MINUTE AS t) AS ago",
            (ME, jobs, minutes_ago),
        )

    ended(6000, 5)
    assert inspection.queues()[0].rate == 0
    ended(60, 0)
    assert inspection.queues()[0].rate == pytest.approx(1, abs=0.2)
    # of the minute before, what is not over for a minute yet
    ended(120, 1)
    assert 0.8 <= inspection.queues()[0].rate <= 3
    in_view = session.value("SELECT rate FROM jobs_status")
    assert float(in_view) == pytest.approx(inspection.queues()[0].rate, abs=0.2)


def test_what_is_old_is_summed_up_and_the_total_stays(jobs: JobTable, session: Session) -> None:
    EphemeralQueues(session).declare_durable("idle")

    def totals() -> dict[str, int]:
        return {queue.queue: queue.ended for queue in Inspection(session).queues()}

    for hours in range(2):
        for queue in ("q", "r"):
            jobs.publisher.put(NewJob(queue, "x"))
            for minutes in (1, 9, 11, 120):
                session.execute(
                    "INSERT INTO jobs_throughput (queue, minute, consumer, ended) "
                    "VALUES (%s, UTC_TIMESTAMP() - INTERVAL %s MINUTE, %s, 2)",
                    (queue, minutes + hours * 60 * 3, ME),
                )
        before = totals()
        jobs.maintenance.sum_up_throughput()
        jobs.maintenance.sum_up_throughput()
        assert totals() == before == {"idle": 0, "q": 8 * (hours + 1), "r": 8 * (hours + 1)}
    in_minutes = session.value("SELECT COUNT(*) FROM jobs_throughput WHERE consumer <> ''")
    assert in_minutes == 4
