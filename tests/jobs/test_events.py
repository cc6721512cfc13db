"""What an observer of the job table is told, and when it is told nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.jobs import JobTable, Migrations, NewJob, Settlement, events

if TYPE_CHECKING:
    from celery_mysqllock.mysql import Session

ME, YOU = "a" * 32, "b" * 32


class Recorder:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[events.Event] = []

    def wants(self, _: type[events.Event]) -> bool:
        return True

    def tell(self, event: events.Event) -> None:
        self.told.append(event)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def jobs(session: Session, recorder: Recorder, claim_method: str) -> JobTable:
    """The job table, once for each way to claim, with the recorder."""
    Migrations(session).apply()
    return JobTable(session, claim_method=claim_method, observer=recorder)


def claim_three(jobs: JobTable) -> list[int]:
    ids = [jobs.publisher.put(NewJob("q", str(number), task_id=str(number))) for number in range(3)]
    jobs.claims.claim("q", 3, ME)
    return ids


def test_each_claimed_job_is_told(jobs: JobTable, recorder: Recorder) -> None:
    ids = claim_three(jobs)
    assert recorder.told == [
        events.JobClaimed(job_id, str(number), "q", 0, ME) for number, job_id in enumerate(ids)
    ]
    jobs.claims.ack(ids, ME)
    assert len(recorder.told) == 3


def test_a_dead_job_is_told_and_one_that_was_given_to_another_is_not(
    jobs: JobTable, recorder: Recorder, session: Session
) -> None:
    first, second, third = claim_three(jobs)
    session.execute("UPDATE jobs SET owner = %s WHERE id = %s", (YOU, second))
    recorder.told.clear()
    settled = Settlement(acked=[third], buried=[(first, "bad"), (second, "worse")])
    jobs.claims.settle_and_claim(settled, ME)
    assert recorder.told == [events.JobDead(first, "bad", ME)]


def test_recovered_jobs_are_told_apart_from_dead_ones(
    jobs: JobTable, recorder: Recorder, session: Session
) -> None:
    first, second, third = claim_three(jobs)
    session.execute("UPDATE jobs SET deliveries = 2 WHERE id = %s", (second,))
    recorder.told.clear()
    assert jobs.maintenance.recover_claims_of(ME, max_deliveries=2) == 3
    (dead,) = (event for event in recorder.told if isinstance(event, events.JobDead))
    assert dead == (second, session.value("SELECT reason FROM jobs WHERE job_status = 3"), ME)
    back = [event for event in recorder.told if isinstance(event, events.JobRecovered)]
    assert back == [events.JobRecovered(job_id, "q", 1, ME) for job_id in (first, third)]
    assert len(recorder.told) == 3


def test_nothing_is_told_of_what_was_rolled_back(
    jobs: JobTable, recorder: Recorder, session: Session
) -> None:
    first, *_ = claim_three(jobs)
    recorder.told.clear()
    session.execute("ALTER TABLE jobs DROP COLUMN reason")
    with pytest.raises(Exception, match="reason"):
        jobs.claims.bury(first, ME, "bad")
    assert recorder.told == []
