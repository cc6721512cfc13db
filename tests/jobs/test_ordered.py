"""Jobs of one order key go one after the other, whoever ends the one before."""

from __future__ import annotations

import random
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.jobs import JobTable, LockNames, NewJob, OrderKey, Sweeper
from celery_mysqllock.jobs.job import Deferral, Settlement
from celery_mysqllock.jobs.ordering import slots
from celery_mysqllock.jobs.table import job_statements
from celery_mysqllock.mysql import Address, Script, Session
from celery_mysqllock.settings import BrokerSettings
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from celery_mysqllock.jobs import ClaimedJob

ME, YOU = "a" * 32, "b" * 32
ONE, OTHER = OrderKey("task:one"), OrderKey("task:other")
PAIR = OrderKey("task:pair", limit=2)


def messages(claimed: Sequence[ClaimedJob]) -> list[str]:
    return [str(job.message) for job in claimed]


def put(jobs: JobTable, order: OrderKey | None, *texts: str) -> list[int]:
    return [jobs.publisher.put(NewJob("q", text, order=order)) for text in texts]


def age(session: Session, seconds: int = 60) -> None:
    """Let what is to be due or over be so."""
    session.execute("UPDATE jobs SET due_at = due_at - INTERVAL %s SECOND", (seconds,))


@pytest.fixture
def retaining(session: Session, jobs: JobTable, claim_method: str) -> JobTable:
    return JobTable(session, claim_method=claim_method, retains=True)


def test_the_next_of_a_key_is_there_when_the_one_before_has_ended(jobs: JobTable) -> None:
    put(jobs, ONE, "1", "2", "3")
    for text in ("1", "2", "3"):
        (job,) = jobs.claims.claim("q", 10, ME)
        assert (job.message, job.order_key) == (text, ONE.text)
        assert jobs.claims.claim("q", 10, YOU) == []
        jobs.claims.ack([job.id], ME)
    assert jobs.claims.claim("q", 10, ME) == []


def test_other_keys_and_jobs_without_one_flow_past(jobs: JobTable) -> None:
    put(jobs, ONE, "1", "2")
    put(jobs, OTHER, "a", "b")
    put(jobs, None, "x", "y")
    assert messages(jobs.claims.claim("q", 10, ME)) == ["1", "a", "x", "y"]


def test_so_many_of_a_key_run_at_once_as_its_limit_says(jobs: JobTable) -> None:
    put(jobs, PAIR, "1", "2", "3", "4", "5")
    one, two = jobs.claims.claim("q", 10, ME)
    jobs.claims.ack([two.id], ME)
    (three,) = jobs.claims.claim("q", 10, ME)
    jobs.claims.settle_and_claim(
        Settlement(acked=[one.id, three.id], ended_keys={one.id: PAIR.text, three.id: PAIR.text}),
        ME,
        None,
        0,
    )
    assert messages(jobs.claims.claim("q", 10, ME)) == ["4", "5"]


def test_the_transaction_that_ends_a_job_claims_the_next(jobs: JobTable) -> None:
    put(jobs, ONE, "1", "2")
    (job,) = jobs.claims.claim("q", 1, ME)
    settled = Settlement(acked=[job.id], ended_keys={job.id: ONE.text})
    assert messages(jobs.claims.settle_and_claim(settled, ME, "q", 1)) == ["2"]


def test_priority_counts_among_keys_and_not_within_one(jobs: JobTable) -> None:
    jobs.publisher.put(NewJob("q", "first", order=ONE))
    jobs.publisher.put(NewJob("q", "urgent", priority=9, order=ONE))
    jobs.publisher.put(NewJob("q", "of another key", priority=5, order=OTHER))
    assert messages(jobs.claims.claim("q", 10, ME)) == ["of another key", "first"]


def test_a_released_job_stays_the_first_of_its_key(jobs: JobTable) -> None:
    put(jobs, ONE, "1", "2")
    (job,) = jobs.claims.claim("q", 10, ME)
    jobs.claims.release([job.id], ME)
    assert messages(jobs.claims.claim("q", 10, YOU)) == ["1"]
    assert jobs.maintenance.recover_claims_of(YOU) == 1
    assert messages(jobs.claims.claim("q", 10, ME)) == ["1"]


def test_a_job_that_is_put_aside_keeps_its_place(jobs: JobTable, session: Session) -> None:
    put(jobs, ONE, "1", "2")
    (job,) = jobs.claims.claim("q", 10, ME)
    jobs.claims.defer(Deferral(job.id, 30.5), ME)
    jobs.ordering.unblock([ONE.text])
    assert jobs.claims.claim("q", 10, ME) == []
    age(session)
    assert jobs.maintenance.promote()
    (again,) = jobs.claims.claim("q", 10, ME)
    assert (again.message, again.deliveries) == ("1", 0)
    assert again.deferred_for is not None


def test_being_put_aside_does_not_count_as_a_delivery(jobs: JobTable, session: Session) -> None:
    put(jobs, None, "x")
    for _ in range(5):
        (job,) = jobs.claims.claim("q", 1, ME)
        jobs.claims.defer(Deferral(job.id, 30), ME)
        age(session)
        jobs.maintenance.promote()
    assert session.value("SELECT deliveries FROM jobs") == 0


def test_a_dead_job_lets_the_next_go(jobs: JobTable) -> None:
    put(jobs, ONE, "1", "2")
    (job,) = jobs.claims.claim("q", 10, ME)
    jobs.claims.bury(job.id, ME, "broken")
    assert messages(jobs.claims.claim("q", 10, ME)) == ["2"]


def test_a_job_that_is_dead_for_its_workers_lets_the_next_go(jobs: JobTable) -> None:
    put(jobs, ONE, "1", "2")
    put(jobs, None, "x")
    jobs.claims.claim("q", 10, YOU)
    assert jobs.maintenance.recover_claims_of(YOU, max_deliveries=1) == 2
    assert messages(jobs.claims.claim("q", 10, ME)) == ["2"]


def test_a_finished_job_that_is_retained_lets_the_next_go(
    retaining: JobTable, session: Session
) -> None:
    put(retaining, ONE, "1", "2")
    (job,) = retaining.claims.claim("q", 10, ME)
    retaining.claims.ack([job.id], ME)
    assert messages(retaining.claims.claim("q", 10, ME)) == ["2"]
    assert session.value("SELECT COUNT(*) FROM jobs WHERE finished_at IS NOT NULL") == 1


def test_an_expired_job_lets_the_next_go(jobs: JobTable, session: Session) -> None:
    jobs.publisher.put(NewJob("q", "too late", lifetime=60, order=ONE))
    put(jobs, ONE, "in time")
    session.execute("UPDATE jobs SET expires_at = expires_at - INTERVAL 2 MINUTE")
    assert messages(jobs.claims.claim("q", 10, ME)) == ["in time"]


def test_a_purge_takes_those_that_wait_too(jobs: JobTable) -> None:
    put(jobs, ONE, "1", "2", "3")
    assert jobs.maintenance.count_ready("q") == 3
    assert jobs.maintenance.purge("q") == 3
    put(jobs, ONE, "4")
    assert messages(jobs.claims.claim("q", 10, ME)) == ["4"]


def test_a_line_may_go_through_several_queues(jobs: JobTable) -> None:
    for queue in ("one", "two", "one"):
        jobs.publisher.put(NewJob(queue, queue, order=ONE))
    for queue in ("one", "two", "one"):
        (job,) = jobs.claims.claim(queue, 10, ME)
        jobs.claims.ack([job.id], ME)


def test_a_job_that_is_due_later_joins_in_the_place_of_its_id(
    jobs: JobTable, session: Session
) -> None:
    put(jobs, ONE, "runs")
    jobs.publisher.put(NewJob("q", "later", delay=30, order=ONE))
    put(jobs, ONE, "waits")
    (job,) = jobs.claims.claim("q", 10, ME)
    age(session)
    assert jobs.maintenance.promote()
    assert jobs.claims.claim("q", 10, ME) == []
    jobs.claims.ack([job.id], ME)
    (later,) = jobs.claims.claim("q", 10, ME)
    assert later.message == "later"
    jobs.claims.ack([later.id], ME)
    assert messages(jobs.claims.claim("q", 10, ME)) == ["waits"]


def test_a_job_that_is_not_due_holds_nobody_up(jobs: JobTable, session: Session) -> None:
    jobs.publisher.put(NewJob("q", "later", delay=30, order=ONE))
    put(jobs, ONE, "now")
    (job,) = jobs.claims.claim("q", 10, ME)
    jobs.claims.ack([job.id], ME)
    age(session)
    assert jobs.maintenance.promote()
    assert messages(jobs.claims.claim("q", 10, ME)) == ["later"]


def test_gaps_that_were_made_by_hand_are_filled(jobs: JobTable, session: Session) -> None:
    first, *_ = put(jobs, ONE, "1", "2", "3")
    put(jobs, PAIR, "a", "b", "c", "d")
    put(jobs, OTHER, "untouched")
    session.execute("DELETE FROM jobs WHERE id = %s OR message IN ('a', 'b')", (first,))
    assert messages(jobs.claims.claim("q", 10, ME)) == ["untouched"]
    assert jobs.ordering.unblock_stalled() == ""
    assert messages(jobs.claims.claim("q", 10, ME)) == ["2", "c", "d"]
    jobs.ordering.unblock_stalled()
    assert jobs.claims.claim("q", 10, ME) == []


def test_gaps_are_found_a_part_of_the_keys_at_a_time(
    jobs: JobTable, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("celery_mysqllock.jobs.ordering._KEYS", 2)
    for key in "abc":
        put(jobs, OrderKey(key), f"{key}1", f"{key}2")
    session.execute("DELETE FROM jobs WHERE job_status = 0")
    after = jobs.ordering.unblock_stalled()
    assert (after, messages(jobs.claims.claim("q", 10, ME))) == ("b", ["a2", "b2"])
    after = jobs.ordering.unblock_stalled(after)
    assert (after, messages(jobs.claims.claim("q", 10, ME))) == ("", ["c2"])


def test_a_row_that_some_program_puts_into_a_line_waits_for_its_turn(
    jobs: JobTable, session: Session
) -> None:
    put(jobs, ONE, "1")
    session.execute(
        "INSERT INTO jobs (message, queue, order_key, job_status) VALUES ('2', 'q', %s, 4)",
        (ONE.text,),
    )
    (job,) = jobs.claims.claim("q", 10, ME)
    jobs.ordering.unblock_stalled()
    assert jobs.claims.claim("q", 10, ME) == []
    jobs.claims.ack([job.id], ME)
    assert messages(jobs.claims.claim("q", 10, ME)) == ["2"]


def test_the_sweeper_fills_gaps(jobs: JobTable, session: Session) -> None:
    first, _ = put(jobs, ONE, "1", "2")
    session.execute("DELETE FROM jobs WHERE id = %s", (first,))
    names = LockNames.of(session, "jobs")
    Sweeper(BrokerSettings(polling_interval=0.2), names).step(session, ME)
    assert messages(jobs.claims.claim("q", 10, ME)) == ["2"]


def test_keys_that_differ_in_spaces_at_their_ends_are_one_to_the_server_and_to_the_locks(
    jobs: JobTable,
) -> None:
    put(jobs, OrderKey("key"), "1")
    put(jobs, OrderKey("key "), "2")
    assert messages(jobs.claims.claim("q", 10, ME)) == ["1"]
    assert slots(["key"]) == slots(["key  "])


def in_thread(target: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=target)
    thread.start()
    return thread


def await_end_or_lock_wait(thread: threading.Thread, session: Session) -> None:
    """Return when the thread is done, or waits for a row that somebody else has locked."""
    waits = "SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'"
    eventually(lambda: not thread.is_alive() or int(session.query(waits)[0][1]) > 0)


def test_of_two_that_are_stored_at_once_one_is_queued(
    jobs: JobTable, session: Session, other: Session
) -> None:
    values = {"message": "1", "queue": "q", "claim_order": 9, "lifetime": None, "task_id": None}
    order = {"order_key": ONE.text, "order_limit": 1, "slot": slots([ONE.text])[0], "too_many": 2}
    sql = job_statements("jobs")
    script = Script(other)
    script.add("BEGIN")
    for step in ("put_ordered", "unblock_new"):
        script.add(sql[step], **values, **order)
    script.run()
    thread = in_thread(lambda: put(jobs, ONE, "2"))
    await_end_or_lock_wait(thread, other)
    other.execute("COMMIT")
    thread.join()
    rows = session.query("SELECT message, job_status FROM jobs ORDER BY id")
    assert rows == [("1", 0), ("2", 4)]


def test_a_job_that_is_stored_while_the_one_before_ends_is_not_left_waiting(
    jobs: JobTable, other: Session, claim_method: str
) -> None:
    put(jobs, ONE, "1")
    (job,) = jobs.claims.claim("q", 1, ME)
    script = Script(other)
    script.add("BEGIN")
    script.add(job_statements("jobs")["ack"], ids=[job.id], owner=ME)
    JobTable(other, claim_method=claim_method).ordering.unblock_in(script, [ONE.text])
    thread = in_thread(lambda: put(jobs, ONE, "2"))
    await_end_or_lock_wait(thread, other)
    script.add("COMMIT")
    script.run()
    thread.join()
    assert messages(jobs.claims.claim("q", 1, ME)) == ["2"]


def test_nobody_waits_for_those_who_claim(jobs: JobTable, session: Session, other: Session) -> None:
    put(jobs, ONE, "1", "2")
    put(jobs, OTHER, "a")
    session.execute("SET SESSION innodb_lock_wait_timeout = 1")
    other.script("BEGIN; SELECT id FROM jobs WHERE job_status = 0 FOR UPDATE")
    put(jobs, ONE, "3")
    jobs.ordering.unblock([ONE.text, OTHER.text])
    other.execute("ROLLBACK")
    assert messages(jobs.claims.claim("q", 10, ME)) == ["1", "a"]


@pytest.fixture
def other(session: Session) -> Iterator[Session]:
    """A session beside the one of the job table."""
    with Session(session.address) as beside:
        yield beside


def test_a_producer_needs_no_more_privileges_than_these(
    jobs: JobTable, session: Session, claim_method: str
) -> None:
    database, user = session.address.database, f"sender_{session.address.database[-8:]}"
    session.execute(f"CREATE USER {user} IDENTIFIED BY 'a password'")
    try:
        session.execute(f"GRANT SELECT, INSERT, UPDATE ON {database}.jobs TO {user}")
        session.execute(f"GRANT SELECT, UPDATE ON {database}.jobs_order_locks TO {user}")
        with Session(replace(session.address, user=user, password="a password")) as sender:  # noqa: S106
            put(JobTable(sender, claim_method=claim_method), ONE, "1", "2")
    finally:
        session.execute(f"DROP USER {user}")
    assert messages(jobs.claims.claim("q", 10, ME)) == ["1"]


KEYS, JOBS, CONSUMERS = 5, 12, 4


@pytest.fixture
def sessions(url: str) -> Iterator[list[Session]]:
    opened = [Session(Address.parse(url)).open() for _ in range(2 * CONSUMERS)]
    yield opened
    for one in opened:
        one.close()


class Crowd:
    """Threads that put, claim and end jobs all at once, and what they saw."""

    def __init__(self, claim_method: str) -> None:
        self.done: dict[str, list[int]] = {f"key {number}": [] for number in range(KEYS)}
        self.overlaps: list[str] = []
        self.errors: list[Exception] = []
        self._running: set[str] = set()
        self._claim_method = claim_method

    def thread(self, work: Callable[[JobTable, int], None], session: Session, mine: int) -> None:
        try:
            work(JobTable(session, claim_method=self._claim_method), mine)
        except Exception as error:  # noqa: BLE001 - shown at the end
            self.errors.append(error)

    def produce(self, table: JobTable, mine: int) -> None:
        for number in range(JOBS):
            for key in list(self.done)[mine::CONSUMERS]:
                table.publisher.put(NewJob("q", f"{key}/{number}", order=OrderKey(key)))

    def consume(self, table: JobTable, mine: int) -> None:
        me, settled = str(mine) * 32, Settlement()
        while sum(map(len, self.done.values())) < KEYS * JOBS and not self.errors:
            claimed = table.claims.settle_and_claim(settled, me, "q", 3)
            settled = Settlement()
            for job in claimed:
                self._begin(job)
            for job in random.sample(claimed, len(claimed)):
                self._running.discard(str(job.order_key))
                settled.ended_keys[job.id] = str(job.order_key)
                if random.random() < 0.1:  # noqa: S311 - no secret
                    settled.buried.append((job.id, "no"))
                else:
                    settled.acked.append(job.id)
        table.claims.settle_and_claim(settled, me, None, 0)

    def _begin(self, job: ClaimedJob) -> None:
        key, _, number = str(job.message).partition("/")
        if key in self._running:
            self.overlaps.append(str(job.message))
        self._running.add(key)
        self.done[key].append(int(number))


def test_order_holds_while_all_put_claim_and_end_at_once(
    jobs: JobTable, session: Session, sessions: list[Session], claim_method: str
) -> None:
    crowd = Crowd(claim_method)
    works = [crowd.produce] * CONSUMERS + [crowd.consume] * CONSUMERS
    threads = [
        threading.Thread(target=crowd.thread, args=(work, one, number % CONSUMERS))
        for number, (work, one) in enumerate(zip(works, sessions, strict=True))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert crowd.errors == []
    assert crowd.overlaps == []
    assert crowd.done == {key: list(range(JOBS)) for key in crowd.done}
    eventually(lambda: session.value("SELECT COUNT(*) FROM jobs WHERE job_status <> 3") == 0)
