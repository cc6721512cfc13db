"""A consumer that dies leaves its jobs to the living."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.jobs import JobTable, Liveness, LockNames, Migrations, NewJob, Sweeper
from celery_mysqllock.mysql import Address, Session, free_among
from celery_mysqllock.settings import BrokerSettings
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery_mysqllock.exceptions import MySQLLockError

CLAIM_AND_HANG = """
import os, threading
from celery_mysqllock.jobs import JobTable
from celery_mysqllock.mysql import Address, Session
from tests.jobs.test_liveness import new_consumer
consumer = new_consumer(os.environ["URL"], lambda error: None)
consumer.start()
session = Session(Address.parse(os.environ["URL"])).open()
print(len(JobTable(session).claims.claim("q", 5, consumer.identity)), flush=True)
threading.Event().wait()
"""


def new_consumer(url: str, on_lost: Callable[[MySQLLockError], None]) -> Liveness:
    address = Address.parse(url)
    settings = BrokerSettings(recovery_grace=1.0, polling_interval=0.2)
    with Session(address) as session:
        names = LockNames.of(session, "jobs")
    sweeper = Sweeper(settings, names)
    return Liveness(
        address,
        session_timeout=30,
        names=names,
        sweeper=sweeper,
        on_lost=on_lost,
    )


@pytest.fixture
def start(url: str) -> Iterator[Callable[[], tuple[Liveness, threading.Event]]]:
    consumers = []

    def start_one() -> tuple[Liveness, threading.Event]:
        lost = threading.Event()
        consumer = new_consumer(url, lambda _: lost.set())
        consumer.start()
        consumers.append(consumer)
        return consumer, lost

    yield start_one
    for consumer in consumers:
        consumer.stop()


def test_the_jobs_of_a_killed_process_go_back_to_the_queue(
    session: Session, url: str, start: Callable[[], tuple[Liveness, threading.Event]]
) -> None:
    Migrations(session).apply()
    jobs = JobTable(session)
    for number in range(5):
        jobs.publisher.put(NewJob("q", str(number)))
    process = subprocess.Popen(
        [sys.executable, "-c", CLAIM_AND_HANG],
        env={**os.environ, "URL": url},
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "5\n"
        start()
        assert jobs.maintenance.count_ready("q") == 0
        process.send_signal(signal.SIGKILL)
    eventually(lambda: jobs.maintenance.count_ready("q") == 5)
    assert all(job.deliveries == 1 for job in jobs.claims.claim("q", 5, "c" * 32))


def test_a_living_consumer_keeps_its_jobs(
    session: Session, start: Callable[[], tuple[Liveness, threading.Event]]
) -> None:
    Migrations(session).apply()
    jobs = JobTable(session)
    jobs.publisher.put(NewJob("q", "kept"))
    jobs.publisher.put(NewJob("q", "orphaned"))
    consumer, _ = start()
    start()
    jobs.claims.claim("q", 1, consumer.identity)
    jobs.claims.claim("q", 1, "d" * 32)
    eventually(lambda: jobs.maintenance.survey().owners == {consumer.identity})
    assert [job.message for job in jobs.claims.claim("q", 5, "e" * 32)] == ["orphaned"]


def test_a_stopped_consumer_frees_its_lock(
    session: Session, start: Callable[[], tuple[Liveness, threading.Event]]
) -> None:
    Migrations(session).apply()
    consumer, lost = start()
    name = LockNames.of(session, "jobs").consumer(consumer.identity)
    assert free_among(session, [name]) == []
    consumer.stop()
    eventually(lambda: free_among(session, [name]) == [name])
    assert not lost.is_set()


def test_a_consumer_whose_session_is_killed_learns_it(
    session: Session, start: Callable[[], tuple[Liveness, threading.Event]]
) -> None:
    Migrations(session).apply()
    consumer, lost = start()
    holder = session.value(
        "SELECT IS_USED_LOCK(%s)",
        (LockNames.of(session, "jobs").consumer(consumer.identity),),
    )
    session.execute("KILL %s", (holder,))
    assert lost.wait(10)


def test_a_consumer_whose_session_is_killed_takes_its_lock_again(
    session: Session, start: Callable[[], tuple[Liveness, threading.Event]]
) -> None:
    Migrations(session).apply()
    consumer, lost = start()
    name = LockNames.of(session, "jobs").consumer(consumer.identity)
    killed = session.value("SELECT IS_USED_LOCK(%s)", (name,))
    session.execute("KILL %s", (killed,))
    assert lost.wait(10)
    eventually(lambda: session.value("SELECT IS_USED_LOCK(%s)", (name,)) not in {None, killed})
    assert consumer.is_alive


def test_a_consumer_is_on_the_list_again_with_its_queues_after_it_was_taken_for_dead(
    session: Session, start: Callable[[], tuple[Liveness, threading.Event]]
) -> None:
    Migrations(session).apply()
    consumer, lost = start()
    consumer.show_queues({"q", "other"}, session)
    listed = "SELECT identity, queues FROM jobs_consumers"
    before = session.query(listed)
    assert before == [(consumer.identity, '["other", "q"]')]
    session.execute("DELETE FROM jobs_consumers")
    lock = LockNames.of(session, "jobs").consumer(consumer.identity)
    session.execute("KILL %s", (session.value("SELECT IS_USED_LOCK(%s)", (lock,)),))
    assert lost.wait(10)
    eventually(lambda: session.query(listed) == before)


def test_a_consumer_that_stops_is_off_the_list(
    session: Session, start: Callable[[], tuple[Liveness, threading.Event]]
) -> None:
    Migrations(session).apply()
    consumer, _ = start()
    consumer.stop(session)
    assert session.query("SELECT identity FROM jobs_consumers") == []


def test_a_consumer_that_may_not_do_the_housekeeping_leaves_it_to_the_next(
    session: Session,
    url: str,
    start: Callable[[], tuple[Liveness, threading.Event]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    turns: list[str] = []
    step = Sweeper.step

    def counted(sweeper: Sweeper, session: Session, identity: str) -> None:
        turns.append(identity)
        step(sweeper, session, identity)

    monkeypatch.setattr(Sweeper, "step", counted)
    Migrations(session).apply()
    database = session.address.database
    session.execute("DROP USER IF EXISTS looker")
    session.execute("CREATE USER looker IDENTIFIED BY 'x'")
    session.execute(f"GRANT ALL ON `{database}`.jobs_consumers TO looker")
    address = replace(Address.parse(url), user="looker", password="x")  # noqa: S106 - the test's
    first = new_consumer(address.url(), lambda _: None)
    first.start()
    try:
        eventually(lambda: turns.count(first.identity) >= 3)
        assert caplog.text.count("The housekeeping of the job table failed") == 1
        sweeper = LockNames.of(session, "jobs").sweeper
        start()
        eventually(
            lambda: (
                session.value(
                    "SELECT user FROM information_schema.processlist WHERE id = IS_USED_LOCK(%s)",
                    (sweeper,),
                )
                == session.address.user
            )
        )
    finally:
        first.stop()
