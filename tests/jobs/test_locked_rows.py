"""Other people's row locks delay what they hold, and nothing else; bad rows likewise."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from celery_mysqllock.exceptions import RowsLocked
from celery_mysqllock.jobs import (
    EphemeralQueues,
    Fetcher,
    JobTable,
    LockNames,
    NewJob,
    OrderKey,
    Sweeper,
)
from celery_mysqllock.jobs.job import Settlement
from celery_mysqllock.jobs.registry import Registry
from celery_mysqllock.jobs.retry import hasty
from celery_mysqllock.mysql import Address, Session
from celery_mysqllock.settings import BrokerSettings
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ME, DEAD = "a" * 32, "d" * 32
ONE = OrderKey("key")


@pytest.fixture(autouse=True)
def short_waits(session: Session) -> None:
    """An old server's way is to wait."""
    session.execute("SET SESSION innodb_lock_wait_timeout = 1")


@pytest.fixture
def report(session: Session) -> Iterator[Callable[..., None]]:
    """A program that locks rows and keeps its transaction open."""
    with Session(session.address) as program:
        program.execute("BEGIN")

        def lock(where: str, table: str = "jobs") -> None:
            assert program.query(f"SELECT 1 FROM {table} WHERE {where} FOR UPDATE")  # noqa: S608

        yield lock


@pytest.fixture
def fetcher(url: str, jobs: JobTable, claim_method: str) -> Iterator[Fetcher]:
    def open_table() -> tuple[Session, JobTable]:
        own = Session(Address.parse(url)).open()
        own.execute("SET SESSION innodb_lock_wait_timeout = 1")
        return own, JobTable(own, jobs.name, claim_method=claim_method)

    fetcher = Fetcher(
        open_table,
        ME,
        claim_limit=64,
        on_jobs=lambda: None,
        on_drained=lambda: None,
        on_end=lambda: None,
        is_alone=lambda: True,
    )
    fetcher.set_window(20)
    fetcher.start()
    fetcher.consume(["q"])
    yield fetcher
    fetcher.close()


def put(jobs: JobTable, *texts: str, **options: Any) -> list[int]:
    return [jobs.publisher.put(NewJob("q", text, **options)) for text in texts]


def take(fetcher: Fetcher, number: int) -> list[int]:
    taken = []
    for _ in range(number):
        while (job := fetcher.take()) is None:
            # nobody rings
            fetcher.look(["q"])
            time.sleep(0.02)
        taken.append(job.id)
    return taken


def left(session: Session, where: str = "TRUE") -> list[str]:
    rows = session.query(f"SELECT message FROM jobs WHERE {where} ORDER BY id")  # noqa: S608
    return [row[0] for row in rows]


# -- the housekeeping -----------------------------------------------------------------------------


def test_jobs_that_are_due_go_past_one_that_is_locked(
    jobs: JobTable, session: Session, report: Callable[..., None]
) -> None:
    ids = put(jobs, *"abcd", delay=60)
    session.execute("UPDATE jobs SET due_at = UTC_TIMESTAMP()")
    report(f"id = {ids[1]}")
    with hasty():
        while jobs.maintenance.promote():
            pass
    assert left(session, "job_status = 0") == ["a", "c", "d"]
    assert left(session, "job_status = 2") == ["b"]


def test_a_dead_consumers_jobs_go_back_past_one_that_is_locked(
    jobs: JobTable, session: Session, report: Callable[..., None]
) -> None:
    ids = put(jobs, *"abcd")
    jobs.claims.claim("q", 4, DEAD)
    report(f"id = {ids[0]}")
    with hasty():
        assert jobs.maintenance.recover_claims_of(DEAD) == 3
    assert left(session, "job_status = 0") == ["b", "c", "d"]
    assert jobs.maintenance.survey().owners == {DEAD}


def test_finished_jobs_go_past_one_that_is_locked(
    jobs: JobTable, session: Session, report: Callable[..., None]
) -> None:
    ids = put(jobs, *"abc")
    session.execute("UPDATE jobs SET job_status = 1, finished_at = '2020-01-01'")
    report(f"id = {ids[1]}")
    with hasty():
        while jobs.maintenance.remove_finished(1):
            pass
    assert left(session) == ["b"]


def test_a_purge_leaves_one_that_is_locked(
    jobs: JobTable, session: Session, report: Callable[..., None]
) -> None:
    ids = put(jobs, *"abc")
    report(f"id = {ids[2]}")
    assert jobs.maintenance.purge("q") == 2
    assert left(session) == ["c"]


def test_a_line_stands_still_while_its_head_is_locked_and_no_other(
    jobs: JobTable, session: Session, report: Callable[..., None], claim_method: str
) -> None:
    first, head, *_ = put(jobs, *"123", order=ONE)
    other, *_ = put(jobs, *"xy", order=OrderKey("other"))
    session.execute("DELETE FROM jobs WHERE id IN (%s, %s)", (first, other))
    report(f"id = {head}")
    if claim_method == "compare_and_set":
        # it waits for the row, and fails as a whole
        with hasty(), pytest.raises(RowsLocked):
            jobs.ordering.unblock_stalled()
        return
    jobs.ordering.unblock_stalled()
    assert left(session, "job_status = 0") == ["y"]


@pytest.mark.usefixtures("has_skip_locked")
def test_expired_ephemeral_messages_go_past_one_that_is_locked(
    jobs: JobTable,
    session: Session,
    report: Callable[..., None],
) -> None:
    queues = EphemeralQueues(session)
    queues.declare("reply", owner=ME)
    for text in "abc":
        queues.put(["reply"], text, lifetime=60)
    session.execute("UPDATE jobs_ephemeral_messages SET expires_at = '2020-01-01'")
    report("message = 'a'", "jobs_ephemeral_messages")
    queues.delete_expired()
    assert session.query("SELECT message FROM jobs_ephemeral_messages") == [("a",)]


@pytest.mark.usefixtures("has_skip_locked")
def test_an_ephemeral_message_that_is_locked_delays_no_other(
    jobs: JobTable,
    session: Session,
    report: Callable[..., None],
) -> None:
    queues = EphemeralQueues(session)
    queues.declare("reply", owner=ME)
    for text in "abc":
        queues.put(["reply"], text)
    report("message = 'a'", "jobs_ephemeral_messages")
    report("queue = 'reply'", "jobs_ephemeral_queues")
    assert queues.take("reply") == ["b", "c"]
    assert session.query("SELECT message FROM jobs_ephemeral_messages") == [("a",)]


ODD_OWNERS = ["", " ", "x", "UPPER", "~", "' OR 1=1 -- ", "a" * 31]


def test_the_housekeeping_gives_back_what_consumers_of_any_name_have(
    url: str, jobs: JobTable, session: Session
) -> None:
    ids = put(jobs, *map(str, range(len(ODD_OWNERS))))
    for job_id, owner in zip(ids, ODD_OWNERS, strict=True):
        update = "UPDATE jobs SET job_status = 1, owner = %s WHERE id = %s"
        session.execute(update, (owner, job_id))
    Registry(session).add("", "nobody", [])
    settings = BrokerSettings(recovery_grace=1.0, polling_interval=0.2)
    sweeper = Sweeper(settings, LockNames.of(session, "jobs"))
    with Session(Address.parse(url)) as own:

        def is_done() -> bool:
            sweeper.step(own, ME)
            return not left(session, "job_status <> 0")

        eventually(is_done)
    assert session.query("SELECT identity FROM jobs_consumers") == []


# -- claims and settlements -----------------------------------------------------------------------


def test_a_claim_passes_over_rows_that_are_locked(
    jobs: JobTable, report: Callable[..., None]
) -> None:
    ids = put(jobs, *"abcd")
    report(f"id = {ids[0]}")
    report(f"id = {ids[2]}")
    claimed = [job.message for _ in range(3) for job in jobs.claims.claim("q", 2, ME)]
    assert claimed == ["b", "d"]
    assert jobs.maintenance.survey().owners == {ME}


def test_an_ack_of_a_row_that_is_locked_delays_itself_and_no_other(
    fetcher: Fetcher, jobs: JobTable, session: Session, report: Callable[..., None]
) -> None:
    ids = put(jobs, *"abcd")
    assert take(fetcher, 4) == ids
    report(f"id = {ids[1]}")
    for job_id in ids:
        fetcher.ack(job_id)
    eventually(lambda: left(session) == ["b"])
    put(jobs, "next")
    for job_id in take(fetcher, 1):
        fetcher.ack(job_id)
    eventually(lambda: left(session) == ["b"])


def test_the_ack_is_stored_when_the_row_is_free_again(
    fetcher: Fetcher, jobs: JobTable, session: Session
) -> None:
    ids = put(jobs, *"ab")
    take(fetcher, 2)
    with locked(session, f"id = {ids[0]}"):
        for job_id in ids:
            fetcher.ack(job_id)
        eventually(lambda: left(session) == ["a"])
    eventually(lambda: left(session) == [])


def test_an_ack_does_not_wait_for_the_next_of_its_key(
    fetcher: Fetcher, jobs: JobTable, session: Session, report: Callable[..., None]
) -> None:
    first, second = put(jobs, *"12", order=ONE)
    put(jobs, "x")
    take(fetcher, 2)
    report(f"id = {second}")
    fetcher.ack(first)
    eventually(lambda: left(session) == ["2", "x"])


def test_locked_counts_of_what_has_ended_delay_no_ack(
    fetcher: Fetcher, jobs: JobTable, session: Session, report: Callable[..., None]
) -> None:
    put(jobs, *"abc")
    one, two, three = take(fetcher, 3)
    fetcher.ack(one)
    eventually(lambda: session.query("SELECT ended FROM jobs_throughput") != [])
    report("queue = 'q'", "jobs_throughput")
    fetcher.ack(two)
    eventually(lambda: left(session) == ["c"])
    fetcher.ack(three)
    eventually(lambda: left(session) == [])


def test_one_settlement_that_the_server_refuses_takes_no_other_with_it(
    fetcher: Fetcher, jobs: JobTable, session: Session
) -> None:
    session.execute(
        "CREATE TRIGGER refusing BEFORE DELETE ON jobs FOR EACH ROW BEGIN "
        "IF OLD.message = 'b' THEN SIGNAL SQLSTATE '45000'; END IF; END"
    )
    ids = put(jobs, *"abcd")
    assert take(fetcher, 4) == ids
    for job_id in ids:
        fetcher.ack(job_id)
    eventually(lambda: left(session) == ["b"])
    put(jobs, "next")
    for job_id in take(fetcher, 1):
        fetcher.ack(job_id)
    eventually(lambda: left(session) == ["b"])
    session.execute("DROP TRIGGER refusing")
    eventually(lambda: left(session) == [])


def test_a_reason_that_the_server_refuses_becomes_another_one(
    fetcher: Fetcher, jobs: JobTable, session: Session
) -> None:
    session.execute(
        "CREATE TRIGGER refusing BEFORE UPDATE ON jobs FOR EACH ROW BEGIN "
        "IF NEW.reason LIKE '%bad%' THEN SIGNAL SQLSTATE '45000'; END IF; END".replace("%", "%%"),
        (),
    )
    put(jobs, *"ab")
    one, two = take(fetcher, 2)
    fetcher.bury(one, "a bad one")
    fetcher.ack(two)
    eventually(lambda: left(session) == ["a"])
    reason = "SELECT reason FROM jobs WHERE job_status = 3"
    assert "worker's log" in eventually(lambda: session.value(reason))


def test_acks_outlive_a_table_that_is_gone_for_a_moment(
    fetcher: Fetcher, jobs: JobTable, session: Session
) -> None:
    ids = put(jobs, *"abc")
    take(fetcher, 3)
    session.execute("RENAME TABLE jobs TO away")
    for job_id in ids:
        fetcher.ack(job_id)
    session.execute("RENAME TABLE away TO jobs")
    eventually(lambda: left(session) == [])
    put(jobs, "goes on")
    take(fetcher, 1)


@contextmanager
def locked(session: Session, where: str) -> Iterator[None]:
    with Session(session.address) as program:
        program.execute("BEGIN")
        program.query(f"SELECT 1 FROM jobs WHERE {where} FOR UPDATE")  # noqa: S608 - no input
        yield


# -- publishing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"delay": 60}, {"order": ONE}], ids=str)
def test_publishing_behind_a_lock_ends_with_an_error_that_says_what_to_do(
    jobs: JobTable, session: Session, options: dict[str, Any]
) -> None:
    jobs.publisher.put(NewJob("q", "x"))
    with Session(session.address) as program:
        program.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        program.execute("BEGIN")
        program.query("SELECT * FROM jobs FOR UPDATE")
        with pytest.raises(RowsLocked) as caught:
            jobs.publisher.put(NewJob("q", "y", **options))
    assert "in the table jobs" in str(caught.value)
    assert "information_schema.INNODB_TRX" in str(caught.value)
    assert left(session) == ["x"]


# -- a server that is none ------------------------------------------------------------------------


class _Careless(Session):
    """A session with a server that drops what it does not know, as TiDB does."""

    def script(self, sql: str, parameters: Any = None) -> list[Any]:
        return super().script(sql.replace("FOR UPDATE SKIP LOCKED", ""), parameters)

    def query(self, sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        return super().query(sql.replace("FOR UPDATE SKIP LOCKED", ""), parameters)


@pytest.mark.usefixtures("has_skip_locked")
def test_it_is_seen_whether_skip_locked_skips(session: Session, jobs: JobTable, url: str) -> None:
    with Session(Address.parse(url)) as other, _Careless(Address.parse(url)) as careless:
        assert JobTable(other).claims.skips_locked(session)
        assert not JobTable(careless, claim_method="skip_locked").claims.skips_locked(session)
        assert JobTable(careless, claim_method="compare_and_set").claims.skips_locked(session)
    assert jobs.publisher.put(NewJob("q", "x"))


def test_no_job_is_claimed_twice_where_locking_does_not_lock(
    jobs: JobTable, session: Session, url: str, claim_method: str
) -> None:
    number = 300
    for job in range(number):
        session.execute("INSERT INTO jobs (message, queue) VALUES (%s, 'q')", (job,))
    claimed: list[int] = []

    def claim(owner: str) -> None:
        with _Careless(Address.parse(url)) as own:
            table = JobTable(own, claim_method=claim_method)
            while found := table.claims.settle_and_claim(Settlement(), owner, "q", 5):
                claimed.extend(job.id for job in found)

    threads = [threading.Thread(target=claim, args=(letter * 32,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(claimed) == len(set(claimed))
    assert sorted(claimed + [job.id for job in jobs.claims.claim("q", number, ME)]) == sorted(
        row[0] for row in session.query("SELECT id FROM jobs")
    )
