"""A worker that loses its connection while tasks run: each runs once, and what waits goes back."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.exceptions import NoSuchSession
from tests.broker.app import hang, late
from tests.broker.worker import POOLS
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_mysqllock.mysql import Session
    from tests.broker.worker import Worker

StartWorker = "Callable[..., Worker]"
pytestmark = pytest.mark.usefixtures("producer_url")


def ledger(session: Session) -> Counter[str]:
    return Counter(row[0] for row in session.query("SELECT entry FROM ledger"))


def kill_all_sessions(session: Session) -> None:
    others = "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> %s"
    for (other,) in session.query(others, (session.connection_id,)):
        # one that has ended by itself meanwhile is as good
        with contextlib.suppress(NoSuchSession):
            session.execute("KILL %s", (other,))


@pytest.mark.parametrize("pool", POOLS)
def test_running_tasks_run_once_though_all_sessions_are_killed(
    session: Session, start_worker: Callable[..., Worker], pool: str
) -> None:
    at_once = 1 if pool == "solo" else 2
    tasks = 6
    for number in range(tasks):
        late.delay(number, 4.0)
    # another one that could take them for a dead worker's
    start_worker("--pool", "solo", "-Q", "nothing")
    worker = start_worker("--pool", pool)
    eventually(lambda: sum(ledger(session).values()) == at_once)
    kill_all_sessions(session)
    worker.await_log("Connection to broker lost")
    eventually(lambda: session.query("SELECT id FROM jobs") == [], within=60)
    each_once = {f"{what} {number}": 1 for number in range(tasks) for what in ("begin", "end")}
    assert ledger(session) == each_once


def test_what_was_not_started_goes_back_at_once(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    for number in range(6):
        late.delay(number, 6.0)
    worker = start_worker(BROKER_OPTIONS='{"recovery_grace": 600}')
    eventually(lambda: sum(ledger(session).values()) == 2)
    kill_all_sessions(session)
    worker.await_log("Connection to broker lost")
    eventually(
        lambda: session.value("SELECT COUNT(DISTINCT owner) FROM jobs WHERE job_status = 1") == 2
    )
    eventually(lambda: session.query("SELECT id FROM jobs") == [], within=60)
    assert set(ledger(session).values()) == {1}


@pytest.mark.parametrize("ballast", [0, 1_000_000], ids=["small", "larger than a pipe"])
def test_what_a_pool_process_has_been_sent_and_not_begun_runs_once(
    session: Session, start_worker: Callable[..., Worker], ballast: int
) -> None:
    worker = start_worker("--concurrency=1")
    with worker.frozen_pool():
        late.delay("sent", 0.5, "x" * ballast)
        late.delay("waits")
        worker.await_log("Task late")
        eventually(lambda: worker.log.count("Task late") == 2)
        kill_all_sessions(session)
        worker.await_log("Connection to broker lost")
    eventually(lambda: session.query("SELECT id FROM jobs") == [], within=60)
    assert ledger(session) == {
        f"{what} {name}": 1 for what in ("begin", "end") for name in ("sent", "waits")
    }


@pytest.mark.parametrize("pool", [pool for pool in POOLS if pool not in ("solo", "threads")])
def test_what_celery_cancels_for_the_loss_runs_again(
    session: Session, start_worker: Callable[..., Worker], pool: str
) -> None:
    worker = start_worker(
        *("--pool", pool),
        CELERY_SETTINGS='{"worker_cancel_long_running_tasks_on_connection_loss": true}',
    )
    hang.delay("cancelled")
    eventually(lambda: ledger(session) == {"begin cancelled": 1})
    kill_all_sessions(session)
    worker.await_log("Connection to broker lost")
    eventually(lambda: session.query("SELECT id FROM jobs") == [])
    assert ledger(session) == {"begin cancelled": 1, "again cancelled": 1}
