"""Jobs that end their workers, or come back again and again: how often, and who else is buried."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.broker.app import app, fall, fatal, give_back, late, note
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_mysqllock.mysql import Session
    from tests.broker.worker import Worker

MOST, JOBS = 3, 9
OPTIONS = f'{{"max_deliveries": {MOST}, "recovery_grace": 1}}'
DEAD = "SELECT deliveries, reason FROM jobs WHERE job_status = 3"

pytestmark = pytest.mark.usefixtures("producer_url")


def ledger(session: Session) -> list[str]:
    return [row[0] for row in session.query("SELECT entry FROM ledger")]


@pytest.mark.parametrize(
    ("pool", "place"), [("solo", 1), ("threads", 0), ("prefork", 0), ("prefork", 5)]
)
def test_what_kills_its_workers_is_dead_at_last_and_nothing_else(
    session: Session, launch_worker: Callable[..., Worker], pool: str, place: int
) -> None:
    for number in range(JOBS):
        if number == place:
            fatal.delay()
        late.delay(number)
    worker: Worker | None = None

    def is_over() -> bool:
        nonlocal worker
        if worker is None or worker.has_ended:
            worker = launch_worker("--pool", pool, BROKER_OPTIONS=OPTIONS)
        return session.query("SELECT job_status FROM jobs") == [(3,)]

    eventually(is_over, within=150)
    ((deliveries, reason),) = session.query(DEAD)
    assert deliveries == MOST
    assert "max_deliveries" in reason
    ran = ledger(session)
    assert {f"end {number}" for number in range(JOBS)} <= set(ran)
    # the first death of a job that was not the first of its claim may come too soon to be known
    assert ran.count("redelivered True after 2") == 1
    assert sum(entry.startswith("redelivered") for entry in ran) <= MOST + 1


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_a_task_that_gives_itself_back_is_dead_after_so_many_times(
    session: Session, start_worker: Callable[..., Worker], pool: str
) -> None:
    start_worker("--pool", pool, BROKER_OPTIONS=OPTIONS)
    give_back.delay()
    ((deliveries, reason),) = eventually(lambda: session.query(DEAD))
    assert deliveries == MOST
    assert "max_deliveries" in reason
    assert "not today" in reason
    assert ledger(session) == ["gave back"] * MOST


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_a_pause_that_is_no_number_of_seconds_is_none(
    session: Session, start_worker: Callable[..., Worker], pool: str
) -> None:
    start_worker("--pool", pool, BROKER_OPTIONS=OPTIONS)
    pauses = ["nan", "inf", "-inf", "-5", "1e30"]
    for pause in pauses:
        give_back.delay(pause)
    note.delay("goes on")
    dead = eventually(lambda: (rows := session.query(DEAD))[len(pauses) - 1 :] and rows)
    assert all(times == MOST and "not today" in reason for times, reason in dead)
    assert "goes on" in ledger(session)


def test_a_task_that_loses_its_process_is_dead_after_so_many_times(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    start_worker(BROKER_OPTIONS=OPTIONS)
    fall.delay()
    ((deliveries, reason),) = eventually(lambda: session.query(DEAD))
    assert deliveries == MOST
    assert "WorkerLostError" in reason
    assert ledger(session) == ["fell"] * MOST


def test_without_a_limit_a_task_gives_itself_back_for_ever_and_waits_longer(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    start_worker(BROKER_OPTIONS='{"max_deliveries": 0}')
    give_back.delay()
    eventually(lambda: ledger(session) == ["gave back"] * 5)
    waits = "SELECT TIMESTAMPDIFF(SECOND, deferred_since, due_at) FROM jobs WHERE job_status = 2"
    assert eventually(lambda: session.value(waits)) >= 5
    assert session.query(DEAD) == []


def test_a_task_of_a_newer_release_is_left_to_the_workers_of_it(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    older = start_worker("--pool", "solo", OLDER_RELEASE="yes")
    app.send_task("newer")
    older.await_log("knows no task 'newer'")
    aside = "SELECT job_status, deliveries FROM jobs WHERE deferred_since IS NOT NULL"
    eventually(lambda: session.query(aside) == [(2, 0)])
    note.delay("goes on")
    eventually(lambda: ledger(session) == ["goes on"])
    older.stop()
    start_worker("--pool", "solo")
    eventually(lambda: "newer" in ledger(session))
    eventually(lambda: session.query("SELECT id FROM jobs") == [])


@pytest.mark.parametrize("protocol", [2, 1])
def test_a_task_that_nobody_knows_is_dead_when_its_time_is_over(
    session: Session,
    start_worker: Callable[..., Worker],
    monkeypatch: pytest.MonkeyPatch,
    protocol: int,
) -> None:
    start_worker("--pool", "solo", BROKER_OPTIONS='{"unknown_task_grace": 2}')
    monkeypatch.setattr(app.amqp, "create_task_message", app.amqp.task_protocols[protocol])
    app.send_task("unheard_of")
    eventually(lambda: session.value("SELECT COUNT(deferred_since) FROM jobs"))
    ((_, reason),) = eventually(lambda: session.query(DEAD))
    assert "no task 'unheard_of'" in reason
