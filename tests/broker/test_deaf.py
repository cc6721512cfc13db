"""Whatever happens to a worker's threads and to the table, the worker is not deaf afterwards."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from celery_mysqllock.exceptions import NoSuchSession
from tests.broker.app import late, note
from tests.broker.worker import POOLS
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery_mysqllock.mysql import Session
    from tests.broker.worker import Worker

StartWorker = "Callable[..., Worker]"


def ran(session: Session, entry: object) -> bool:
    return bool(session.value("SELECT COUNT(*) FROM ledger WHERE entry = %s", (str(entry),)))


def answers_ping(environment: dict[str, str]) -> bool:
    answer = subprocess.run(
        [
            *(sys.executable, "-m", "celery", "-A", "tests.broker.app"),
            *("inspect", "ping", "--timeout=10", "--destination=worker-0@test"),
        ],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return "pong" in answer.stdout


def check_hearing(session: Session, worker: Worker, environment: dict[str, str]) -> None:
    """The worker runs a new job, and answers."""
    note.delay("after")
    eventually(lambda: ran(session, "after"), 60, "a new job")
    # a command that is on its way when a session is lost is lost too, as with any broker
    eventually(lambda: answers_ping(environment), 90, "an answer")
    assert not worker.has_ended


@pytest.mark.usefixtures("producer_url")
@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("thread", ["bell", "consumer", "fetcher"])
def test_an_error_that_no_thread_expects_costs_the_connection_and_no_more(
    session: Session,
    start_worker: Callable[..., Worker],
    environment: dict[str, str],
    pool: str,
    thread: str,
) -> None:
    worker = start_worker("--pool", pool, PROVOKE=thread)
    for number in range(5):
        note.delay(number)
    eventually(lambda: f"provoked in the {thread}" in worker.log, 60, "the provoked error")
    eventually(lambda: all(ran(session, number) for number in range(5)), 60, "all jobs")
    check_hearing(session, worker, environment)
    eventually(lambda: session.value("SELECT COUNT(*) FROM jobs") == 0, 60, "all settled")


@pytest.mark.usefixtures("producer_url")
@pytest.mark.parametrize("pool", POOLS)
def test_each_session_of_a_worker_may_be_lost_alone(
    session: Session,
    start_worker: Callable[..., Worker],
    environment: dict[str, str],
    pool: str,
) -> None:
    worker = start_worker("--pool", pool)
    sessions = session.query(
        "SELECT id FROM information_schema.processlist WHERE db = DATABASE() "
        "AND id <> CONNECTION_ID()"
    )
    for (connection_id,) in sessions:
        with contextlib.suppress(NoSuchSession):  # it went with another one
            session.execute("KILL %s", (connection_id,))
        session.execute("DELETE FROM ledger")
        check_hearing(session, worker, environment)


def renamed(session: Session) -> Iterator[None]:
    session.execute("RENAME TABLE jobs TO elsewhere")
    yield
    session.execute("RENAME TABLE elsewhere TO jobs")


def locked(session: Session) -> Iterator[None]:
    session.execute("LOCK TABLES jobs WRITE")
    yield
    session.execute("UNLOCK TABLES")


@pytest.mark.usefixtures("producer_url")
@pytest.mark.parametrize("pool", ["prefork", "solo"])
@pytest.mark.parametrize("keep_away", [renamed, locked])
def test_a_table_that_is_away_for_a_while_is_waited_for(
    session: Session,
    start_worker: Callable[..., Worker],
    environment: dict[str, str],
    pool: str,
    keep_away: Callable[[Session], Iterator[Any]],
) -> None:
    worker = start_worker("--pool", pool)
    late.delay("one", 1)
    eventually(lambda: ran(session, "begin one"))
    for _ in keep_away(session):
        # The bell and the settlement of the job both meet it.
        worker.await_log("trying again")
        eventually(lambda: worker.log.count("trying again") > 1, 60, "two that wait")
    check_hearing(session, worker, environment)
    eventually(lambda: session.value("SELECT COUNT(*) FROM jobs") == 0, 60, "all settled")
    # The end of the first job was not lost, or it would run again.
    assert session.value("SELECT COUNT(*) FROM ledger WHERE entry = 'begin one'") == 1
