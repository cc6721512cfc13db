"""The procedure with which any program stores a job and wakes an idle worker."""

from __future__ import annotations

import threading
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.exceptions import ConnectionLost, Interrupted, MissingPrivilege
from celery_mysqllock.jobs import JobTable, LockNames, Migrations
from celery_mysqllock.jobs.lock_names import SLOTS
from celery_mysqllock.jobs.schema import publish_procedure
from celery_mysqllock.mysql import Address, Session
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

ME = "a" * 32
SLEEP = "SELECT SLEEP(60)"
QUEUES = [
    *("celery", "a b[c]{d}|e", "x" * 45, "-", "Großes Q", "UPPER", "a~b", "É", "é_ü_", "İK~"),
    *("x" * 200, "\U0001f980" * 80, "it's \"\\", "two\nlines"),
]


class Sleeper:
    """An idle consumer's session: it sleeps and holds a bell.

    Args:
        address: Where to log in.
        bell: The name of the bell.
    """

    def __init__(self, address: Address, bell: str) -> None:
        self._session = Session(address).open()
        assert self._session.value("SELECT GET_LOCK(%s, 0)", (bell,)) == 1
        self.was_rung = False
        self._thread = threading.Thread(target=self._sleep)
        self._thread.start()

    def _sleep(self) -> None:
        try:
            # ended by KILL QUERY it gives 1, or an error
            self.was_rung = self._session.value(SLEEP) == 1
        except Interrupted:
            self.was_rung = True
        except ConnectionLost:
            # nobody has, and the test is over
            return

    def is_asleep(self, watching: Session) -> bool:
        """Whether the server has its statement."""
        return bool(
            watching.value(
                "SELECT COUNT(*) FROM information_schema.processlist WHERE id = %s AND info = %s",
                (self._session.connection_id, SLEEP),
            )
        )

    def end(self) -> None:
        """Wake it, if nobody has."""
        self._thread.join(0 if not self.was_rung else 10)
        self._session.shutdown()
        self._thread.join(10)


@pytest.fixture
def table(session: Session) -> JobTable:
    Migrations(session).apply()
    return JobTable(session)


def rings(session: Session, queue: str, slot: int, table: str = "jobs") -> bool:
    """Whether the procedure wakes who holds that bell of the queue."""
    bell = LockNames.of(session, table).bells(queue)[slot]
    sleeper = Sleeper(session.address, bell)
    try:
        eventually(lambda: sleeper.is_asleep(session))
        session.query(f"CALL {publish_procedure(table)}(%s, 'x')", (queue,))
        try:
            eventually(lambda: sleeper.was_rung, within=5)
        except AssertionError:
            return False
        return True
    finally:
        sleeper.end()


def test_it_wakes_the_consumer_of_any_queue(session: Session) -> None:
    Migrations(session).apply()
    silent = [
        queue for number, queue in enumerate(QUEUES) if not rings(session, queue, number % SLOTS)
    ]
    assert silent == []
    assert {row[0] for row in session.query("SELECT queue FROM jobs")} == set(QUEUES)


def test_it_wakes_the_consumer_of_a_queue_whose_name_is_padded(session: Session) -> None:
    Migrations(session).apply()
    names = LockNames.of(session, "jobs")
    assert names.bells("padded  ") == names.bells("padded")
    assert rings(session, "padded  ", 0)


def test_it_returns_the_ids_of_row_and_task(table: JobTable, session: Session) -> None:
    ((job_id, task_id),) = session.query("CALL mysqllock_publish('q', 'x')")
    (job,) = table.claims.claim("q", 1, ME)
    assert (job.id, job.message, job.task_id) == (job_id, "x", task_id)
    assert uuid.UUID(task_id)
    assert session.value("SELECT LAST_INSERT_ID()") == job_id


def test_it_takes_id_and_priority_from_the_json(table: JobTable, session: Session) -> None:
    session.query("CALL mysqllock_publish('q', '{\"task\": \"first come\"}')")
    message = '{"task": "t", "id": "mine", "priority": 9}'
    ((_, task_id),) = session.query("CALL mysqllock_publish('q', %s)", (message,))
    assert task_id == "mine"
    assert [job.task_id for job in table.claims.claim("q", 1, ME)] == ["mine"]


@pytest.mark.parametrize(
    "message", ["", "{", "7", "null", '{"id": null}', '{"id": 7, "priority": "x"}', "[1]"]
)
def test_it_stores_whatever_it_is_given(table: JobTable, session: Session, message: str) -> None:
    session.query("CALL mysqllock_publish(NULL, %s)", (message,))
    (job,) = table.claims.claim("celery", 1, ME)
    assert job.message == message
    assert uuid.UUID(job.task_id)


def test_in_a_transaction_the_job_is_there_with_its_commit(
    table: JobTable, session: Session, url: str
) -> None:
    with Session(Address.parse(url)) as other:
        for end, jobs in (("ROLLBACK", 0), ("COMMIT", 1)):
            other.execute("BEGIN")
            other.query("CALL mysqllock_publish('q', 'x')")
            assert table.claims.claim("q", 1, ME) == []
            other.execute(end)
            assert len(table.claims.claim("q", 1, ME)) == jobs


@pytest.fixture
def users(session: Session) -> Iterator[tuple[Address, Address]]:
    """The logins of who has migrated, and of one who may do nothing but call the procedure.

    Neither is an administrator: MySQL lets no procedure end the statements of a SYSTEM_USER.
    """
    address = session.address
    owner, caller = (f"{name}_{address.database[-8:]}" for name in ("owner", "caller"))
    for user in (owner, caller):
        session.execute(f"CREATE USER {user} IDENTIFIED BY 'a password'")
    try:
        session.execute(f"GRANT ALL ON {address.database}.* TO {owner}")
        logins = [replace(address, user=user, password="a password") for user in (owner, caller)]  # noqa: S106 - of this test
        with Session(logins[0]) as migrating:
            Migrations(migrating).apply()
        procedure = f"{address.database}.mysqllock_publish"
        session.execute(f"GRANT EXECUTE ON PROCEDURE {procedure} TO {caller}")
        yield logins[0], logins[1]
    finally:
        session.execute(f"DROP USER {owner}, {caller}")


def test_who_may_only_call_it_needs_no_more(
    session: Session, users: tuple[Address, Address]
) -> None:
    owner, caller = users
    sleeper = Sleeper(owner, LockNames.of(session, "jobs").bells("q")[0])
    with Session(caller) as calling:
        try:
            eventually(lambda: sleeper.is_asleep(session))
            calling.query("CALL mysqllock_publish('q', 'x')")
            eventually(lambda: sleeper.was_rung)
        finally:
            sleeper.end()
        with pytest.raises(MissingPrivilege):
            calling.query("SELECT * FROM jobs")


def test_each_table_has_its_own(session: Session) -> None:
    for name in ("jobs", "orders"):
        Migrations(session, name).apply()
        assert rings(session, "q", 0, name)
        session.execute(f"TRUNCATE TABLE {name}")
        session.query(f"CALL {publish_procedure(name)}('q', %s)", (name,))
    for name in ("jobs", "orders"):
        assert [job.message for job in JobTable(session, name).claims.claim("q", 9, ME)] == [name]


def test_one_of_an_older_release_is_made_anew(session: Session) -> None:
    Migrations(session).apply()
    session.execute("DROP PROCEDURE mysqllock_publish")
    session.execute("CREATE PROCEDURE mysqllock_publish() COMMENT 'celery-mysqllock: old' SELECT 1")
    assert [step.name for step in Migrations(session).apply()] == ["procedure"]
    assert Migrations(session).pending() == []
    assert rings(session, "q", 0)


def test_one_that_a_restored_dump_has_lost_is_made_again(session: Session) -> None:
    Migrations(session).apply()
    session.execute("DROP PROCEDURE mysqllock_publish")
    assert [step.name for step in Migrations(session).apply()] == ["procedure"]
    assert session.query("CALL mysqllock_publish('q', 'x')")
