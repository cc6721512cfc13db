"""The contract of the job table, whichever way it claims."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.exceptions import MessageTooLarge, SettingsError
from celery_mysqllock.jobs import JobTable, NewJob
from celery_mysqllock.mysql import Address, Session

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ME, YOU = "a" * 32, "b" * 32


def status_of(session: Session, job_id: int) -> tuple[int, str | None]:
    return session.query("SELECT job_status, owner FROM jobs WHERE id = %s", (job_id,))[0]


def messages(claimed: Sequence[object]) -> list[str]:
    return [job.message for job in claimed]  # type: ignore[attr-defined]


def test_a_bare_insert_is_a_job_of_the_default_queue(jobs: JobTable, session: Session) -> None:
    session.execute("INSERT INTO jobs (message) VALUES ('from anywhere')")
    assert messages(jobs.claims.claim("celery", 10, ME)) == ["from anywhere"]


def test_jobs_are_claimed_first_in_first_out(jobs: JobTable) -> None:
    for text in ("one", "two", "three"):
        jobs.publisher.put(NewJob("q", text))
    assert messages(jobs.claims.claim("q", 2, ME)) == ["one", "two"]
    assert messages(jobs.claims.claim("q", 2, ME)) == ["three"]


def test_the_greater_priority_goes_first(jobs: JobTable) -> None:
    for priority in (0, 9, 5):
        jobs.publisher.put(NewJob("q", str(priority), priority=priority))
    assert messages(jobs.claims.claim("q", 3, ME)) == ["9", "5", "0"]


def test_queues_are_apart_and_their_names_are_exact(jobs: JobTable) -> None:
    jobs.publisher.put(NewJob("q", "small"))
    jobs.publisher.put(NewJob("Q", "great"))
    assert messages(jobs.claims.claim("Q", 10, ME)) == ["great"]


def test_a_claimed_job_is_dequeued_and_has_an_owner(jobs: JobTable, session: Session) -> None:
    job_id = jobs.publisher.put(NewJob("q", "x"))
    jobs.claims.claim("q", 1, ME)
    assert status_of(session, job_id) == (1, ME)


def test_a_claimed_job_is_not_claimed_again(jobs: JobTable) -> None:
    jobs.publisher.put(NewJob("q", "x"))
    assert len(jobs.claims.claim("q", 5, ME)) == 1
    assert jobs.claims.claim("q", 5, YOU) == []


def test_an_acked_job_is_gone(jobs: JobTable, session: Session) -> None:
    job_id = jobs.publisher.put(NewJob("q", "x"))
    jobs.claims.claim("q", 1, ME)
    jobs.claims.ack([job_id], ME)
    assert session.query("SELECT * FROM jobs") == []


def test_an_ack_by_who_does_not_own_the_job_does_nothing(jobs: JobTable, session: Session) -> None:
    job_id = jobs.publisher.put(NewJob("q", "x"))
    jobs.claims.claim("q", 1, ME)
    jobs.claims.ack([job_id], YOU)
    assert status_of(session, job_id) == (1, ME)


def test_a_released_job_comes_again_in_its_old_place_and_is_not_counted(jobs: JobTable) -> None:
    first = jobs.publisher.put(NewJob("q", "first"))
    jobs.publisher.put(NewJob("q", "second"))
    assert jobs.claims.claim("q", 1, ME)[0].deliveries == 0
    jobs.claims.release([first], ME)
    again = jobs.claims.claim("q", 2, YOU)
    assert messages(again) == ["first", "second"]
    assert [job.deliveries for job in again] == [0, 0]


def test_a_buried_job_is_kept_with_its_reason_and_never_claimed(
    jobs: JobTable, session: Session
) -> None:
    job_id = jobs.publisher.put(NewJob("q", "x"))
    jobs.claims.claim("q", 1, ME)
    jobs.claims.bury(job_id, ME, "no such task")
    jobs.claims.bury(job_id, ME, "no such task: import its module")
    assert status_of(session, job_id) == (3, None)
    assert session.value("SELECT reason FROM jobs") == "no such task: import its module"
    assert jobs.claims.claim("q", 1, ME) == []


def test_the_claims_of_one_owner_go_back_and_no_others(jobs: JobTable) -> None:
    for text in ("mine", "yours"):
        jobs.publisher.put(NewJob("q", text))
    jobs.claims.claim("q", 1, ME)
    jobs.claims.claim("q", 1, YOU)
    assert jobs.maintenance.survey().owners == {ME, YOU}
    assert jobs.maintenance.recover_claims_of(ME) == 1
    assert jobs.maintenance.survey().owners == {YOU}
    assert messages(jobs.claims.claim("q", 5, YOU)) == ["mine"]


def test_purge_takes_what_waits_and_leaves_what_runs(jobs: JobTable) -> None:
    for text in ("runs", "waits", "waits too"):
        jobs.publisher.put(NewJob("q", text))
    jobs.claims.claim("q", 1, ME)
    assert jobs.maintenance.count_ready("q") == 2
    assert jobs.maintenance.purge("q") == 2
    assert jobs.maintenance.survey().owners == {ME}


@pytest.fixture
def open_transaction(jobs: JobTable, session: Session) -> Iterator[Session]:
    """Some program has inserted a job and does not commit."""
    session.execute("SET SESSION innodb_lock_wait_timeout = 1")
    with Session(session.address) as program:
        jobs.publisher.put(NewJob("q", "first"))
        program.execute("BEGIN")
        program.execute("INSERT INTO jobs (message, queue) VALUES ('open', 'q')")
        for _ in range(7):
            jobs.publisher.put(NewJob("q", "x"))
        yield program


@pytest.mark.usefixtures("open_transaction")
def test_an_open_transaction_of_a_program_keeps_no_consumer_waiting(
    jobs: JobTable, session: Session
) -> None:
    # a table as small as this is where the server likes to read all of it
    for settle in (jobs.claims.ack, jobs.claims.release, jobs.claims.ack):
        claimed = [job.id for job in jobs.claims.claim("q", 4, ME)]
        assert len(claimed) == 4
        settle(claimed, ME)
    assert session.value("SELECT COUNT(*) FROM jobs") == 0


@pytest.mark.usefixtures("open_transaction")
def test_an_open_transaction_keeps_no_purge_waiting(jobs: JobTable, session: Session) -> None:
    assert jobs.maintenance.purge("q") == 8


@pytest.mark.usefixtures("open_transaction")
def test_an_open_transaction_keeps_no_retention_waiting(jobs: JobTable, session: Session) -> None:
    keeper = JobTable(session, retains=True)
    keeper.claims.ack([job.id for job in keeper.claims.claim("q", 8, ME)], ME)
    session.execute(
        "UPDATE jobs SET finished_at = finished_at - INTERVAL 1 HOUR WHERE finished_at IS NOT NULL"
    )
    assert keeper.maintenance.remove_finished(60) == 8
    assert keeper.maintenance.remove_finished(60) == 0


def test_no_job_is_claimed_twice_by_many_at_once(
    jobs: JobTable, claim_method: str, url: str
) -> None:
    total, consumers = 300, 6
    for number in range(total):
        jobs.publisher.put(NewJob("q", str(number)))
    taken: list[str] = []
    start = threading.Barrier(consumers)

    def consume(owner: str) -> None:
        with Session(Address.parse(url)) as session:
            own = JobTable(session, claim_method=claim_method)
            start.wait()
            while own.maintenance.count_ready("q"):
                taken.extend(messages(own.claims.claim("q", 4, owner)))

    threads = [
        threading.Thread(target=consume, args=(format(number, "032x"),))
        for number in range(consumers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken, key=int) == [str(number) for number in range(total)]


def test_a_text_of_any_script_comes_back_as_it_was(jobs: JobTable) -> None:
    text = "Grüße, 你好, \U0001f980, 'quotes' \\ %s"
    jobs.publisher.put(NewJob("q", text))
    assert messages(jobs.claims.claim("q", 1, ME)) == [text]


def test_a_message_above_the_servers_limit_is_refused_with_the_reason(
    jobs: JobTable, session: Session
) -> None:
    limit = session.value("SELECT @@max_allowed_packet")
    with pytest.raises(MessageTooLarge, match="max_allowed_packet"):
        jobs.publisher.put(NewJob("q", "x" * (limit + 1)))


def test_a_queue_name_that_is_too_long_is_refused(jobs: JobTable) -> None:
    with pytest.raises(SettingsError, match="255"):
        jobs.publisher.put(NewJob("q" * 256, "x"))


def test_a_tables_name_that_is_none_is_refused(session: Session) -> None:
    with pytest.raises(SettingsError, match="jobs; DROP"):
        JobTable(session, "jobs; DROP TABLE jobs")
