"""Of a key there is one job: who gets it, and how it becomes free."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.exceptions import JobExists, SettingsError
from celery_mysqllock.jobs import JobTable, LockNames, NewJob, UniqueKey, job_statements, unique_key
from celery_mysqllock.jobs.new_job import Insertion
from celery_mysqllock.jobs.unique import UniqueKeys
from celery_mysqllock.mysql import Address, Session

if TYPE_CHECKING:
    from collections.abc import Callable

ME, YOU = "a" * 32, "b" * 32
QUEUED, UNTIL_DONE = UniqueKey("queued:report:7"), UniqueKey("until_done:report:7")
KINDS = pytest.mark.parametrize("key", [QUEUED, UNTIL_DONE], ids=["queued", "until_done"])


def is_free(jobs: JobTable, key: UniqueKey) -> bool:
    """Whether the next one to ask for the key gets it; if so, it is given back."""
    try:
        job_id = jobs.publisher.put(NewJob("probes", "x", task_id="probe", unique=key))
    except JobExists:
        return False
    (probe,) = jobs.claims.claim("probes", 1, YOU)
    assert probe.id == job_id
    jobs.claims.ack([job_id], YOU)
    return True


@KINDS
def test_a_second_job_of_the_key_is_not_stored_and_the_error_says_who_has_it(
    jobs: JobTable, session: Session, key: UniqueKey
) -> None:
    job_id = jobs.publisher.put(NewJob("q", "one", task_id="first", unique=key))
    with pytest.raises(JobExists) as found:
        jobs.publisher.put(NewJob("q", "two", task_id="second", unique=key))
    assert (found.value.job_id, found.value.task_id) == (job_id, "first")
    assert session.query("SELECT message, task_id, unique_key FROM jobs") == [
        ("one", "first", key.text)
    ]


def test_other_keys_and_jobs_without_one_are_not_held_up(jobs: JobTable) -> None:
    jobs.publisher.put(NewJob("q", "1", task_id="1", unique=QUEUED))
    jobs.publisher.put(NewJob("q", "2", task_id="2", unique=UNTIL_DONE))
    jobs.publisher.put(NewJob("q", "3", task_id="3", unique=UniqueKey("queued:report:8")))
    for number in ("4", "5"):
        jobs.publisher.put(NewJob("q", number, task_id=number))
    assert jobs.maintenance.count_ready("q") == 5


@KINDS
def test_a_scheduled_job_has_its_key_too(jobs: JobTable, key: UniqueKey) -> None:
    jobs.publisher.put(NewJob("q", "x", task_id="1", delay=3600, unique=key))
    assert not is_free(jobs, key)
    jobs.maintenance.purge("q")
    assert is_free(jobs, key)


def test_the_key_queued_is_free_when_the_job_is_claimed_and_stays_so(jobs: JobTable) -> None:
    job_id = jobs.publisher.put(NewJob("q", "x", task_id="1", unique=QUEUED))
    jobs.claims.claim("q", 1, ME)
    assert is_free(jobs, QUEUED)
    jobs.claims.release([job_id], ME)
    assert is_free(jobs, QUEUED)


def test_the_key_until_done_stays_while_the_job_is_claimed_and_given_back(jobs: JobTable) -> None:
    jobs.publisher.put(NewJob("q", "x", task_id="1", unique=UNTIL_DONE))
    jobs.claims.claim("q", 1, ME)
    assert not is_free(jobs, UNTIL_DONE)
    assert jobs.maintenance.recover_claims_of(ME) == 1
    assert not is_free(jobs, UNTIL_DONE)
    (again,) = jobs.claims.claim("q", 1, YOU)
    jobs.claims.ack([again.id], YOU)
    assert is_free(jobs, UNTIL_DONE)


def _ack(jobs: JobTable, session: Session, job_id: int) -> None:
    del session
    jobs.claims.ack([job_id], ME)


def _finish(jobs: JobTable, session: Session, job_id: int) -> None:
    del jobs
    JobTable(session, retains=True).claims.ack([job_id], ME)


def _bury(jobs: JobTable, session: Session, job_id: int) -> None:
    del session
    jobs.claims.bury(job_id, ME, "it cannot run")


def _wear_out(jobs: JobTable, session: Session, job_id: int) -> None:
    del session, job_id
    jobs.maintenance.recover_claims_of(ME, max_deliveries=1)


def _delete_by_hand(jobs: JobTable, session: Session, job_id: int) -> None:
    del jobs
    session.execute("DELETE FROM jobs WHERE id = %s", (job_id,))


def _make_dead_by_hand(jobs: JobTable, session: Session, job_id: int) -> None:
    del jobs
    session.execute("UPDATE jobs SET job_status = 3 WHERE id = %s", (job_id,))


@pytest.mark.parametrize(
    "end", [_ack, _finish, _bury, _wear_out, _delete_by_hand, _make_dead_by_hand]
)
def test_the_key_until_done_is_free_however_the_job_ends(
    jobs: JobTable, session: Session, end: Callable[[JobTable, Session, int], None]
) -> None:
    job_id = jobs.publisher.put(NewJob("q", "x", task_id="1", unique=UNTIL_DONE))
    jobs.claims.claim("q", 1, ME)
    assert not is_free(jobs, UNTIL_DONE)
    end(jobs, session, job_id)
    assert is_free(jobs, UNTIL_DONE)


@pytest.mark.parametrize("end", [_finish, _bury, _wear_out])
def test_a_job_that_stays_in_the_table_gives_its_key_back_itself(
    jobs: JobTable, session: Session, end: Callable[[JobTable, Session, int], None]
) -> None:
    job_id = jobs.publisher.put(NewJob("q", "x", task_id="1", unique=UNTIL_DONE))
    jobs.claims.claim("q", 1, ME)
    end(jobs, session, job_id)
    assert session.query("SELECT unique_key FROM jobs") == [(None,)]


def test_a_claim_takes_the_key_queued_from_the_job(jobs: JobTable, session: Session) -> None:
    jobs.publisher.put(NewJob("q", "x", task_id="1", unique=QUEUED))
    jobs.claims.claim("q", 1, ME)
    assert session.query("SELECT unique_key FROM jobs") == [(None,)]


@KINDS
def test_a_key_is_free_when_its_waiting_job_has_expired_though_nobody_has_looked(
    jobs: JobTable, session: Session, key: UniqueKey
) -> None:
    jobs.publisher.put(NewJob("q", "x", task_id="1", lifetime=3600, unique=key))
    assert not is_free(jobs, key)
    session.execute("UPDATE jobs SET expires_at = UTC_TIMESTAMP(6)")
    assert is_free(jobs, key)
    assert jobs.claims.claim("q", 1, ME) == []


def test_a_key_is_not_free_when_its_job_expires_while_it_runs(
    jobs: JobTable, session: Session
) -> None:
    jobs.publisher.put(NewJob("q", "x", task_id="1", lifetime=3600, unique=UNTIL_DONE))
    jobs.claims.claim("q", 1, ME)
    session.execute("UPDATE jobs SET expires_at = UTC_TIMESTAMP(6)")
    assert not is_free(jobs, UNTIL_DONE)


def test_an_old_consumer_that_only_sets_the_status_frees_the_key_queued(
    jobs: JobTable, session: Session
) -> None:
    jobs.publisher.put(NewJob("q", "x", task_id="1", unique=QUEUED))
    session.execute("UPDATE jobs SET job_status = 1")
    assert is_free(jobs, QUEUED)


@KINDS
def test_a_job_that_is_sent_again_since_the_answer_was_lost_is_stored_once(
    jobs: JobTable, key: UniqueKey
) -> None:
    first = jobs.publisher.put(NewJob("q", "x", task_id="1", unique=key))
    assert jobs.publisher.put(NewJob("q", "x", task_id="1", unique=key)) == first
    assert jobs.maintenance.count_ready("q") == 1


def test_a_retry_takes_the_key_from_its_own_running_job(jobs: JobTable, session: Session) -> None:
    running = jobs.publisher.put(NewJob("q", "x", task_id="1", unique=UNTIL_DONE))
    jobs.claims.claim("q", 1, ME)
    again = UniqueKey(UNTIL_DONE.text, must_store=True)
    retry = jobs.publisher.put(NewJob("q", "retry", task_id="1", delay=60, unique=again))
    rows = "SELECT id, unique_key FROM jobs ORDER BY id"
    assert session.query(rows) == [(running, None), (retry, UNTIL_DONE.text)]
    assert not is_free(jobs, UNTIL_DONE)
    jobs.claims.ack([running], ME)
    assert not is_free(jobs, UNTIL_DONE)


def test_a_job_that_must_be_stored_is_stored_without_a_key_that_another_task_has(
    jobs: JobTable, session: Session
) -> None:
    first = jobs.publisher.put(NewJob("q", "x", task_id="1", unique=UNTIL_DONE))
    again = UniqueKey(UNTIL_DONE.text, must_store=True)
    second = jobs.publisher.put(NewJob("q", "y", task_id="2", unique=again))
    rows = "SELECT id, task_id, unique_key FROM jobs ORDER BY id"
    assert session.query(rows) == [(first, "1", UNTIL_DONE.text), (second, "2", None)]


def test_a_callers_transaction_takes_no_key_from_a_running_job(
    jobs: JobTable, session: Session
) -> None:
    running = jobs.publisher.put(NewJob("q", "x", task_id="1", unique=UNTIL_DONE))
    jobs.claims.claim("q", 1, ME)
    again = UniqueKey(UNTIL_DONE.text, must_store=True)
    retry = NewJob("q", "retry", task_id="1", unique=again)
    insertion = Insertion.of(retry, LockNames.of(session, "jobs"))
    with Session(session.address) as caller:
        caller.execute("BEGIN")
        keys = UniqueKeys(session, job_statements("jobs"), caller)
        stored = keys.insert(insertion, must_store=True)
        assert session.value("SELECT COUNT(*) FROM jobs") == 1
        caller.execute("COMMIT")
    rows = session.query("SELECT id, unique_key FROM jobs ORDER BY id")
    assert rows == [(running, UNTIL_DONE.text), (stored.row_id, None)]


@pytest.mark.parametrize("task_id", [None, "x" * 256])
def test_a_unique_job_that_others_could_not_name_is_refused(
    jobs: JobTable, task_id: str | None
) -> None:
    with pytest.raises(SettingsError, match="needs a task id"):
        jobs.publisher.put(NewJob("q", "x", task_id=task_id, unique=QUEUED))
    jobs.publisher.put(NewJob("q", "x", task_id=task_id))


def test_the_keys_of_waiting_jobs_can_be_freed_by_task(jobs: JobTable) -> None:
    other = UniqueKey("queued:other")
    jobs.publisher.put(NewJob("q", "x", task_id="1", unique=UNTIL_DONE))
    jobs.claims.claim("q", 1, ME)
    jobs.publisher.put(NewJob("q", "x", task_id="2", delay=60, unique=QUEUED))
    jobs.publisher.put(NewJob("q", "x", task_id="3", unique=other))
    assert jobs.unique_keys.free_those_of(["1", "2", "4"]) == 1
    assert is_free(jobs, QUEUED)
    assert not is_free(jobs, other)
    assert not is_free(jobs, UNTIL_DONE)  # it runs


def test_of_many_at_once_one_is_stored_while_jobs_come_and_go(
    jobs: JobTable, url: str, claim_method: str
) -> None:
    """Threads put jobs of a few keys, while others claim and ack: never two of a key at once."""
    rounds, producers = 150, 6
    producing = threading.Event()
    producing.set()
    stored: list[int] = []
    met: list[str | None] = []
    done: list[int] = []

    def produce(own: JobTable, name: str) -> None:
        for number in range(rounds):
            key = UniqueKey(f"until_done:{number % 5}")
            try:
                stored.append(
                    own.publisher.put(NewJob("q", key.text, task_id=f"{name}-{number}", unique=key))
                )
            except JobExists as error:
                met.append(error.task_id)

    def consume(own: JobTable, name: str) -> None:
        while producing.is_set() or own.maintenance.count_ready("q"):
            claimed = own.claims.claim("q", 3, name)
            if len({job.message for job in claimed}) != len(claimed):
                raise AssertionError(claimed)
            own.claims.ack([job.id for job in claimed], name)
            done.extend(job.id for job in claimed)

    def run(work: Callable[[JobTable, str], None], name: str) -> None:
        with Session(Address.parse(url)) as session:
            work(JobTable(session, claim_method=claim_method), name)

    with ThreadPoolExecutor() as threads:
        consuming = [threads.submit(run, consume, f"{number:032x}") for number in range(2)]
        putting = [threads.submit(run, produce, f"p{number}") for number in range(producers)]
        try:
            for one in putting:
                one.result()
        finally:
            producing.clear()
        for one in consuming:
            one.result()
    assert len(stored) + len(met) == producers * rounds
    assert sorted(done) == sorted(stored)
    assert met
    assert all(met)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a", "A"),
        ("a", "a "),
        ("é", "e"),
        ("x" * 300, "x" * 301),
        ("a~b", "a b"),
        ("a\n", "a"),
        ("\udc80", "\udc81"),
    ],
)
def test_keys_are_exact_whatever_is_in_them(jobs: JobTable, one: str, other: str) -> None:
    jobs.publisher.put(NewJob("q", "1", task_id="1", unique=UniqueKey(unique_key("queued", one))))
    jobs.publisher.put(NewJob("q", "2", task_id="2", unique=UniqueKey(unique_key("queued", other))))
    with pytest.raises(JobExists):
        jobs.publisher.put(
            NewJob("q", "3", task_id="3", unique=UniqueKey(unique_key("queued", one)))
        )


def test_a_short_key_is_readable_in_the_table_and_a_long_one_has_a_readable_beginning() -> None:
    assert unique_key("queued", 'proj.rebuild:{"account":7}') == 'queued:proj.rebuild:{"account":7}'
    long = unique_key("until_done", f"proj.rebuild:{'x' * 400}")
    assert long.startswith("until_done:proj.rebuild:xxx")
    assert len(long) == 255
