"""What a person does with jobs and queues, whichever way they are claimed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.exceptions import SettingsError
from celery_mysqllock.jobs import Control, JobTable, NewJob, Work
from celery_mysqllock.mysql import Address, Session

if TYPE_CHECKING:
    from collections.abc import Iterable

ME = "a" * 32


@pytest.fixture
def control(jobs: JobTable, session: Session) -> Control:
    del jobs  # which has made the table
    return Control(session)


def dead_job(jobs: JobTable, queue: str = "q") -> int:
    job_id = jobs.publisher.put(NewJob(queue, "x"))
    jobs.claims.claim(queue, 1, ME)
    jobs.claims.bury(job_id, ME, "no such task")
    return job_id


def ids(claimed: Iterable[object]) -> list[int]:
    return [job.id for job in claimed]  # type: ignore[attr-defined]


def test_a_paused_queue_gives_nothing_until_it_is_resumed(jobs: JobTable, control: Control) -> None:
    job_id = jobs.publisher.put(NewJob("q", "x"))
    jobs.publisher.put(NewJob("other", "x"))
    control.pause("q")
    assert jobs.claims.claim("q", 5, ME) == []
    assert len(jobs.claims.claim("other", 5, ME)) == 1
    later = jobs.publisher.put(NewJob("q", "published meanwhile"))
    assert control.resume("q")
    assert ids(jobs.claims.claim("q", 5, ME)) == [job_id, later]
    assert not control.resume("q")


def test_pausing_twice_keeps_the_first_time(control: Control, session: Session) -> None:
    control.pause("q")
    first = session.query("SELECT queue, paused_at FROM jobs_queues")
    control.pause("q")
    assert session.query("SELECT queue, paused_at FROM jobs_queues") == first


def test_what_is_claimed_of_a_paused_queue_can_be_settled(
    jobs: JobTable, control: Control, session: Session
) -> None:
    job_id = jobs.publisher.put(NewJob("q", "x"))
    jobs.claims.claim("q", 1, ME)
    control.pause("q")
    jobs.claims.ack([job_id], ME)
    assert session.query("SELECT id FROM jobs") == []


def test_neither_sweeper_nor_doorbell_is_alarmed_by_a_paused_queue(
    jobs: JobTable, control: Control, session: Session
) -> None:
    work, values = Work(session).is_any(["p", "q"], ["q"])

    def has_work() -> bool:
        return bool(session.value(f"SELECT {work}", values))

    jobs.publisher.put(NewJob("q", "x"))
    assert has_work()
    assert jobs.maintenance.survey().ready_queues == {"q"}
    control.pause("q")
    assert not has_work()
    assert jobs.maintenance.survey().ready_queues == set()
    control.resume("q")
    assert has_work()
    assert jobs.maintenance.survey().ready_queues == {"q"}


def test_a_claim_does_not_wait_for_who_pauses_nor_the_other_way_round(
    jobs: JobTable, control: Control, session: Session, url: str
) -> None:
    for _ in range(3):
        jobs.publisher.put(NewJob("q", "x"))
    control.pause("q")
    control.resume("q")
    with Session(Address.parse(url)) as other:
        other.execute("SET innodb_lock_wait_timeout = 1")
        session.execute("SET innodb_lock_wait_timeout = 1")
        other.execute("BEGIN")
        assert len(JobTable(other).claims.claim("q", 1, "b" * 32)) == 1
        other.execute("BEGIN")
        Control(other).pause("q")
        # not committed: nobody is to be held up by it
        assert len(jobs.claims.claim("q", 1, ME)) == 1
        other.execute("COMMIT")
    assert jobs.claims.claim("q", 1, ME) == []


def test_a_retried_job_is_as_if_it_had_never_been_delivered(
    jobs: JobTable, control: Control
) -> None:
    job_id = dead_job(jobs)
    assert control.retry([job_id]) == 1
    (again,) = jobs.claims.claim("q", 5, ME)
    assert (again.id, again.deliveries) == (job_id, 0)


def test_a_retried_job_runs_though_its_row_had_expired(
    jobs: JobTable, control: Control, session: Session
) -> None:
    job_id = dead_job(jobs)
    session.execute("UPDATE jobs SET expires_at = UTC_TIMESTAMP() - INTERVAL 1 DAY")
    control.retry([job_id])
    assert ids(jobs.claims.claim("q", 5, ME)) == [job_id]


def test_only_dead_jobs_are_retried(jobs: JobTable, control: Control, session: Session) -> None:
    running, ready = (
        jobs.publisher.put(NewJob("q", "runs")),
        jobs.publisher.put(NewJob("q", "waits")),
    )
    jobs.claims.claim("q", 1, ME)
    before = session.query("SELECT * FROM jobs")
    assert control.retry([running, ready]) == 0
    assert session.query("SELECT * FROM jobs") == before


def test_whatever_nobody_has_is_discarded(
    jobs: JobTable, control: Control, session: Session
) -> None:
    dead = dead_job(jobs)
    running = jobs.publisher.put(NewJob("q", "runs"))
    jobs.claims.claim("q", 1, ME)
    ready, kept = jobs.publisher.put(NewJob("q", "waits")), jobs.publisher.put(NewJob("q", "kept"))
    later = jobs.publisher.put(NewJob("q", "later", delay=60))
    assert control.discard([dead, running, ready, later]) == 3
    assert [row[0] for row in session.query("SELECT id FROM jobs ORDER BY id")] == [running, kept]


def test_jobs_are_moved_and_keep_what_they_are(jobs: JobTable, control: Control) -> None:
    dead = dead_job(jobs)
    running = jobs.publisher.put(NewJob("q", "runs"))
    jobs.claims.claim("q", 1, ME)
    ready = jobs.publisher.put(NewJob("q", "waits"))
    assert control.move([dead, running, ready], "other") == 2
    assert ids(jobs.claims.claim("other", 5, ME)) == [ready]
    assert control.retry([dead]) == 1
    assert ids(jobs.claims.claim("other", 5, ME)) == [dead]


def test_more_jobs_than_one_statement_takes_are_changed(
    jobs: JobTable, control: Control, session: Session
) -> None:
    session.execute(
        "INSERT INTO jobs (message, queue, job_status) "
        "SELECT 'x', 'q', 3 FROM information_schema.columns LIMIT 900"
    )
    session.execute(
        "INSERT INTO jobs (message, queue, job_status) SELECT message, queue, 3 FROM jobs"
    )
    found = [row[0] for row in session.query("SELECT id FROM jobs")]
    assert control.retry(found) == 1800
    assert control.move_queue("q", "other") == 1800
    assert jobs.maintenance.count_ready("other") == 1800
    assert control.discard(found) == 1800


def test_a_queue_is_moved_and_purged_but_for_what_runs_or_is_dead(
    jobs: JobTable, control: Control, session: Session
) -> None:
    dead_job(jobs)
    jobs.publisher.put(NewJob("q", "runs"))
    jobs.claims.claim("q", 1, ME)
    jobs.publisher.put(NewJob("q", "waits"))
    jobs.publisher.put(NewJob("q", "later", delay=60))
    assert control.move_queue("q", "other") == 2
    assert control.purge("q") == 0
    assert control.purge("other") == 2
    assert len(session.query("SELECT id FROM jobs")) == 2


def test_names_that_are_none_are_refused(control: Control) -> None:
    with pytest.raises(SettingsError, match="255"):
        control.pause("q" * 256)
    with pytest.raises(SettingsError, match="empty"):
        control.move([1], "")
    with pytest.raises(SettingsError, match="already"):
        control.move_queue("q", "q")
