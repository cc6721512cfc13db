"""What an inspection says is what is there, and the view says the same."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.exceptions import MissingPrivilege
from celery_mysqllock.jobs import (
    Control,
    EphemeralQueues,
    Inspection,
    JobStatus,
    JobTable,
    Migrations,
    NewJob,
    Selection,
)
from celery_mysqllock.jobs.lock_names import LockNames
from celery_mysqllock.jobs.registry import Registry
from celery_mysqllock.mysql import Address, Session, get_lock
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

ME, YOU = "a" * 32, "b" * 32
MESSAGE = json.dumps({"body": [], "headers": {"task": "shop.pay", "id": "id-7"}, "properties": {}})


@pytest.fixture
def jobs(session: Session) -> JobTable:
    """The job table; its contract with either way to claim is tested elsewhere."""
    Migrations(session).apply()
    return JobTable(session, retains=True)


@pytest.fixture
def inspection(jobs: JobTable, session: Session) -> Inspection:
    del jobs  # which has made the table
    return Inspection(session)


@pytest.fixture
def one_of_each(jobs: JobTable, session: Session) -> dict[JobStatus, int]:
    """A job of each status in the queue q, and two that are ready."""
    ids = {}
    for status in ("dead", "done", "running"):
        ids[JobStatus(status)] = jobs.publisher.put(NewJob("q", MESSAGE))
        jobs.claims.claim("q", 1, ME)
    jobs.claims.bury(ids[JobStatus.DEAD], ME, "no such task")
    jobs.claims.ack([ids[JobStatus.DONE]], ME)
    ids[JobStatus.SCHEDULED] = jobs.publisher.put(NewJob("q", MESSAGE, delay=60))
    ids[JobStatus.WAITING] = jobs.publisher.put(NewJob("q", MESSAGE))
    session.execute("UPDATE jobs SET job_status = 4 WHERE id = %s", (ids[JobStatus.WAITING],))
    ids[JobStatus.READY] = jobs.publisher.put(NewJob("q", MESSAGE, priority=9))
    jobs.publisher.put(NewJob("q", "plain text"))
    return ids


def view(session: Session) -> dict[str, dict[str, object]]:
    columns = [row[0] for row in session.query("SHOW COLUMNS FROM jobs_status")]
    rows = session.query("SELECT * FROM jobs_status")
    return {row[0]: dict(zip(columns, row, strict=True)) for row in rows}


@pytest.mark.usefixtures("one_of_each")
def test_a_queue_is_counted_by_status_and_the_view_agrees(
    inspection: Inspection, session: Session
) -> None:
    (queue,) = inspection.queues()
    counts = {status.value: getattr(queue, status.value) for status in JobStatus}
    assert counts == {
        "ready": 2, "scheduled": 1, "waiting": 1, "running": 1, "dead": 1, "done": 1,
    }  # fmt: skip
    seen = view(session)["q"]
    assert {name: seen[name] for name in counts} == counts
    assert (queue.paused_at, seen["paused"]) == (None, 0)


def test_a_queue_that_was_declared_or_paused_is_there_without_a_job(
    inspection: Inspection, session: Session
) -> None:
    EphemeralQueues(session).declare_durable("declared")
    Control(session).pause("paused")
    declared, paused = inspection.queues()
    assert (declared.queue, declared.paused_at) == ("declared", None)
    assert paused.queue == "paused"
    assert paused.paused_at is not None
    assert abs(datetime.now(UTC) - paused.paused_at) < timedelta(minutes=5)
    assert [view(session)[name]["paused"] for name in ("declared", "paused")] == [0, 1]


def test_the_age_is_that_of_the_job_first_in_line(
    inspection: Inspection, jobs: JobTable, session: Session
) -> None:
    assert inspection.queues() == []
    for minutes, priority in ((10, 0), (20, 5), (1, 5)):
        job_id = jobs.publisher.put(NewJob("q", "x", priority=priority))
        session.execute(
            "UPDATE jobs SET created_at = NOW(6) - INTERVAL %s MINUTE WHERE id = %s",
            (minutes, job_id),
        )
    (queue,) = inspection.queues()
    assert queue.oldest_age == pytest.approx(20 * 60, abs=30)
    assert view(session)["q"]["oldest_age"] == pytest.approx(20 * 60, abs=30)


def test_a_scheduled_job_is_no_older_than_since_it_was_due(
    inspection: Inspection, jobs: JobTable, session: Session
) -> None:
    jobs.publisher.put(NewJob("q", "x", delay=60))
    session.execute(
        "UPDATE jobs SET created_at = NOW(6) - INTERVAL 1 DAY, due_at = UTC_TIMESTAMP(6)"
    )
    jobs.maintenance.promote()
    (queue,) = inspection.queues()
    assert queue.oldest_age is not None
    assert queue.oldest_age < 3600


def test_counting_stops_at_a_limit_unless_all_are_asked_for(
    inspection: Inspection, jobs: JobTable
) -> None:
    for _ in range(5):
        jobs.publisher.put(NewJob("q", "x"))
    assert inspection.queues(3)[0].ready == 3
    assert inspection.queues(None)[0].ready == 5


def test_jobs_are_told_by_status(inspection: Inspection, one_of_each: dict[JobStatus, int]) -> None:
    assert len(inspection.jobs()) == 7
    for status, job_id in one_of_each.items():
        found = inspection.jobs(Selection(status=status))
        assert (found[0].id, found[0].status) == (job_id, status)
        assert len(found) == (2 if status == JobStatus.READY else 1)
    (dead,) = inspection.jobs(Selection(status=JobStatus.DEAD))
    assert (dead.reason, dead.task, dead.task_id) == ("no such task", "shop.pay", "id-7")
    assert dead.finished_at is not None
    assert dead.message is None


@pytest.mark.usefixtures("one_of_each")
def test_jobs_are_selected_by_queue_task_and_age(
    inspection: Inspection, jobs: JobTable, session: Session
) -> None:
    other = jobs.publisher.put(NewJob("other", '{"task": "shop.ship"}'))
    session.execute("UPDATE jobs SET created_at = NOW(6) - INTERVAL 2 HOUR WHERE id = %s", (other,))
    for selection in (
        Selection(queue="other"),
        Selection(task="shop.ship"),
        Selection(older_than=3600.0),
        Selection("other", JobStatus.READY, "shop.ship", 60.0),
    ):
        assert inspection.ids(selection) == [other]
    assert inspection.ids(Selection(queue="q", task="shop.ship")) == []
    assert len(inspection.jobs(limit=3)) == 3


def test_those_in_line_come_first_and_of_the_dead_the_last(
    inspection: Inspection, jobs: JobTable
) -> None:
    dead = [jobs.publisher.put(NewJob("q", "x")) for _ in range(3)]
    jobs.claims.claim("q", 3, ME)
    for job_id in dead:
        jobs.claims.bury(job_id, ME, "why")
    late, urgent, later = (
        jobs.publisher.put(NewJob("q", "x", priority=priority)) for priority in (0, 9, 0)
    )
    assert inspection.ids(Selection(status=JobStatus.READY)) == [urgent, late, later]
    assert inspection.ids(Selection(status=JobStatus.DEAD), 2) == dead[:0:-1]


def test_a_job_is_found_by_row_and_by_task_with_its_message(
    inspection: Inspection, jobs: JobTable, session: Session
) -> None:
    first, again = (
        jobs.publisher.put(NewJob("q", MESSAGE)),
        jobs.publisher.put(NewJob("q", MESSAGE)),
    )
    noted = jobs.publisher.put(NewJob("q", "text"))
    session.execute("UPDATE jobs SET task_id = 'noted' WHERE id = %s", (noted,))
    (found,) = inspection.find(str(first))
    assert (found.id, found.message) == (first, MESSAGE)
    assert [job.id for job in inspection.find("id-7")] == [first, again]
    assert [job.message for job in inspection.find("noted")] == ["text"]
    assert inspection.find("999") == inspection.find("none") == []


def test_a_message_of_any_kind_can_be_listed(inspection: Inspection, jobs: JobTable) -> None:
    for message in ("", "text", "[1]", "{", '{"task": 5}', '{"headers": 7}', '"\U0001f980"'):
        jobs.publisher.put(NewJob("q", message))
    assert [job.task for job in inspection.jobs()] == [None, None, None, None, "5", None, None]


def test_consumers_are_told_with_their_claims_and_whether_they_live(
    inspection: Inspection, jobs: JobTable, session: Session
) -> None:
    registry = Registry(session)
    registry.add(ME, "celery@one", ["q", "other"])
    registry.add(YOU, "celery@two", [])
    registry.set_queues(YOU, ["q"])
    get_lock(session, LockNames.of(session, "jobs").consumer(ME), 0)
    for _ in range(3):
        jobs.publisher.put(NewJob("q", "x"))
    jobs.claims.claim("q", 2, ME)
    jobs.claims.claim("q", 1, "c" * 32)
    one, two, unlisted = inspection.consumers()
    assert (one.name, one.queues, one.is_alive, one.claims) == (
        "celery@one", ("other", "q"), True, 2,
    )  # fmt: skip
    assert (two.name, two.queues, two.is_alive, two.claims) == ("celery@two", ("q",), False, 0)
    assert (unlisted.name, unlisted.identity, unlisted.claims) == (None, "c" * 32, 1)
    assert inspection.jobs(Selection(status=JobStatus.RUNNING))[0].consumer == "celery@one"


@pytest.fixture
def forgotten(url: str, inspection: Inspection) -> Iterator[Session]:
    """A session whose transaction somebody has left open."""
    del inspection  # the table is there
    with Session(Address.parse(url)) as session:
        session.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        session.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
        session.query("SELECT * FROM jobs")
        yield session


def test_the_oldest_open_transaction_is_told(inspection: Inspection, forgotten: Session) -> None:
    def is_oldest() -> bool:
        told = inspection.server().oldest_transaction
        return told is not None and told.connection_id == forgotten.connection_id

    # a test beside this one may have an older one for a while
    eventually(is_oldest, 60)
    health = inspection.server()
    assert health.oldest_transaction is not None
    assert 0 <= health.oldest_transaction.age < 60
    assert health.oldest_transaction.user == forgotten.address.user
    assert health.history_list_length is not None


def test_who_may_not_know_of_transactions_gets_the_rest(
    inspection: Inspection, session: Session, url: str
) -> None:
    assert inspection.server().knows_transactions
    address = Address.parse(url)
    user = f"reader_{address.database[-8:]}"
    session.execute(f"CREATE USER {user} IDENTIFIED BY 'a password'")
    try:
        session.execute(f"GRANT SELECT ON {address.database}.* TO {user}")
        reader = Address(address.host, address.database, user, "a password", address.port)
        with Session(reader) as reading:
            health = Inspection(reading).server()
            assert Inspection(reading).queues() == []
            assert not health.knows_transactions
            assert health.oldest_transaction is None
            assert health.server == str(session.server)
    finally:
        session.execute(f"DROP USER {user}")


def test_who_may_not_make_the_view_is_told_which_privilege_is_missing(
    session: Session, url: str
) -> None:
    address = Address.parse(url)
    user = f"maker_{address.database[-8:]}"
    session.execute(f"CREATE USER {user} IDENTIFIED BY 'a password'")
    try:
        session.execute(
            f"GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX, DROP, CREATE ROUTINE "
            f"ON {address.database}.* TO {user}"
        )
        maker = Address(address.host, address.database, user, "a password", address.port)
        with Session(maker) as making, pytest.raises(MissingPrivilege, match="CREATE VIEW"):
            Migrations(making).apply()
    finally:
        session.execute(f"DROP USER {user}")
    # the rest is done by one who may
    Migrations(session).apply()
    assert view(session) == {}


def test_what_runs_is_listed_over_all_queues_the_longest_first(
    inspection: Inspection, jobs: JobTable, session: Session
) -> None:
    ids = [jobs.publisher.put(NewJob(queue, MESSAGE)) for queue in ("q", "r", "q")]
    for queue in ("r", "q"):
        jobs.claims.claim(queue, 1, ME)
    session.execute(
        "UPDATE jobs SET claimed_at = NOW(6) - INTERVAL 1 HOUR WHERE id = %s", (ids[0],)
    )
    assert [(job.id, job.status) for job in inspection.running(10)] == [
        (ids[0], JobStatus.RUNNING),
        (ids[1], JobStatus.RUNNING),
    ]
    assert [job.id for job in inspection.running(1)] == [ids[0]]


def test_odd_rows_keep_nobody_from_looking(
    jobs: JobTable, session: Session, inspection: Inspection
) -> None:
    deep = "[" * 300 + "]" * 300
    headers = '{"task": "deep", "id": "id-8"}'
    nested = f'{{"body": [{deep}], "headers": {headers}, "properties": {{}}}}'
    for message in (nested, f'{{"task": "row", "args": {deep}}}', "[" * 5000, '{"task": [5]}', "{"):
        jobs.publisher.put(NewJob("odd", message))
    session.execute("INSERT INTO jobs (message, queue, job_status) VALUES ('{}', 'odd', 77)")
    session.execute("INSERT INTO jobs_consumers (identity, name, queues) VALUES ('', '@', 'x')")
    found = inspection.jobs(Selection(queue="odd"))
    assert [job.task for job in found] == ["deep", "row", None, "[5]", None]
    assert found[0].task_id == "id-8"
    assert [job.id for job in inspection.jobs(Selection(task="deep"))] == [found[0].id]
    assert [job.id for job in inspection.find("id-8")] == [found[0].id]
    assert inspection.find("id-9") == []
    odd = session.value("SELECT id FROM jobs WHERE job_status = 77")
    assert [job.status for job in inspection.find(str(odd))] == [JobStatus.DONE]
    assert () in [consumer.queues for consumer in inspection.consumers()]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_json_that_only_python_reads_is_found_by_task_and_id(
    jobs: JobTable, inspection: Inspection, number: str
) -> None:
    def message(task: str, value: str) -> str:
        return (
            f'{{"body": [[{value}], {{"of": "shop.pay"}}, {{}}], '
            f'"headers": {{"task": "{task}", "id": "id of {task}", "seen": "id of shop.pay"}}}}'
        )

    wanted = [
        jobs.publisher.put(NewJob("q", message("shop.pay", value))) for value in (number, "1")
    ]
    jobs.publisher.put(NewJob("q", message("shop.tell", number)))
    jobs.publisher.put(NewJob("q", f"{{{number}"))
    found = inspection.jobs(Selection(task="shop.pay"))
    assert [(job.id, job.task) for job in found] == [(one, "shop.pay") for one in wanted]
    assert inspection.ids(Selection(task="shop.pay")) == wanted
    assert [job.id for job in inspection.find("id of shop.pay")] == wanted
