"""The ids of a table that another program has made may run out; it can get greater ones."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pymysql
import pytest

from celery_mysqllock.exceptions import IdsUsedUp
from celery_mysqllock.jobs import JobTable, Migrations, NewJob, OrderKey, UniqueKey, Widening
from celery_mysqllock.mysql import Address, Session
from celery_mysqllock.mysql.errors import is_about_ids

if TYPE_CHECKING:
    from collections.abc import Callable

ME = "a" * 32
LAST = 2**31 - 1


@pytest.fixture
def jobs(session: Session) -> JobTable:
    """A table of INT ids, of which one is left."""
    session.execute(
        "CREATE TABLE jobs (id INT AUTO_INCREMENT PRIMARY KEY, message TEXT, job_status INT)"
    )
    Migrations(session).apply()
    session.execute(f"ALTER TABLE jobs AUTO_INCREMENT = {LAST}")
    return JobTable(session)


@pytest.mark.parametrize(
    "put",
    [
        lambda jobs: jobs.publisher.put(NewJob("q", "x")),
        lambda jobs: jobs.publisher.put(NewJob("q", "x", delay=60)),
        lambda jobs: jobs.publisher.put(NewJob("q", "x", order=OrderKey("key"))),
        lambda jobs: jobs.publisher.put(
            NewJob("q", "x", task_id="t", unique=UniqueKey("done:key"))
        ),
        lambda jobs: jobs.publisher.put_each([NewJob("q", "x"), NewJob("r", "x")]),
    ],
    ids=["plain", "scheduled", "ordered", "unique", "several"],
)
def test_a_job_that_gets_no_id_is_one_clear_error(
    jobs: JobTable, put: Callable[[JobTable], object]
) -> None:
    jobs.publisher.put(NewJob("other", "the last"))
    with pytest.raises(IdsUsedUp, match="mysqllock migrate --wide-ids"):
        put(jobs)


def test_ids_are_widened_while_programs_use_the_table(
    jobs: JobTable, session: Session, url: str
) -> None:
    session.execute("ALTER TABLE jobs AUTO_INCREMENT = 1")
    for number in range(5000):
        session.execute("INSERT INTO jobs (message, queue) VALUES (%s, 'q')", (number,))
    done = threading.Event()
    seen: list[str] = []
    sent: list[str] = []

    def consume(owner: str) -> None:
        with Session(Address.parse(url)) as own:
            table = JobTable(own)
            while not done.is_set():
                claimed = table.claims.claim("q", 5, owner)
                seen.extend(str(job.message) for job in claimed)
                if claimed:
                    own.execute("UPDATE jobs SET reason = 'x' WHERE id = %s", (claimed[0].id,))
                    table.claims.ack([job.id for job in claimed], owner)

    def produce() -> None:
        with Session(Address.parse(url)) as own:
            table = JobTable(own)
            while not done.is_set():
                message = f"new {len(sent)}"
                table.publisher.put(NewJob("q", message))
                sent.append(message)

    threads = [
        *(threading.Thread(target=consume, args=(letter * 32,)) for letter in "ab"),
        threading.Thread(target=produce),
    ]
    for thread in threads:
        thread.start()
    try:
        widening = Widening(session)
        assert widening.is_needed
        widening.apply()
        assert not widening.is_needed
    finally:
        done.set()
        for thread in threads:
            thread.join()
    while claimed := jobs.claims.claim("q", 500, ME):
        seen += [str(job.message) for job in claimed]
    assert sorted(seen) == sorted([*map(str, range(5000)), *sent])
    tables = {row[0] for row in session.query("SHOW TABLES LIKE 'jobs%'")}
    assert not tables & {"jobs_wide", "jobs_narrow"}
    assert session.query("SHOW TRIGGERS") == []
    Migrations(session).check()
    session.execute(f"ALTER TABLE jobs AUTO_INCREMENT = {2**40}")
    assert jobs.publisher.put(NewJob("q", "beyond")) == 2**40


@pytest.mark.parametrize("step", ["make", "on_insert", "on_delete", "copy", "exchange"])
def test_a_run_that_was_killed_is_finished_by_the_next(
    jobs: JobTable, session: Session, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    for number in range(10):
        session.execute(  # with small ids
            "INSERT INTO jobs (id, message, queue) VALUES (%s, %s, 'q')", (number + 1, number)
        )
    first = Widening(session)
    execute = Session.execute

    def die(self: Session, sql: str, parameters: object = None) -> int:
        done = execute(self, sql, parameters)
        if sql == first._sql[step] or (step == "copy" and "LOCK IN SHARE" in sql):  # noqa: SLF001
            raise KeyboardInterrupt
        if step.startswith("on_") and f"jobs_{step}`" in sql:
            raise KeyboardInterrupt
        return done

    monkeypatch.setattr(Session, "execute", die)
    with pytest.raises(KeyboardInterrupt):
        first.apply()
    monkeypatch.undo()
    # life goes on meanwhile
    (claimed,) = jobs.claims.claim("q", 1, ME)
    jobs.claims.ack([claimed.id], ME)
    second = Widening(session)
    assert second.is_needed
    second.apply()
    assert not second.is_needed
    assert [job.message for job in jobs.claims.claim("q", 20, ME)] == [str(n) for n in range(1, 10)]
    assert session.query("SHOW TRIGGERS") == []


def test_wide_ids_are_left_alone(session: Session) -> None:
    Migrations(session).apply()
    assert not Widening(session).is_needed


def test_an_id_that_was_given_twice_is_told_from_a_key() -> None:
    text = f"Duplicate entry '{LAST}' for key 'jobs.PRIMARY'"
    assert is_about_ids(pymysql.err.IntegrityError(1062, text))
    other = "Duplicate entry 'for key 'jobs.PRIMARY'' for key 'jobs.unique_key'"
    assert not is_about_ids(pymysql.err.IntegrityError(1062, other))
