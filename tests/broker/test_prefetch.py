"""How many jobs a worker claims ahead, by Celery's settings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.broker.app import early, late
from tests.broker.worker import POOLS
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_mysqllock.mysql import Session
    from tests.broker.worker import Worker

StartWorker = "Callable[..., Worker]"
pytestmark = pytest.mark.usefixtures("producer_url")
NO_PREFETCH = json.dumps({"worker_disable_prefetch": True})


def ledger(session: Session) -> set[str]:
    return {row[0] for row in session.query("SELECT entry FROM ledger")}


def claimed(session: Session) -> int:
    return int(session.value("SELECT COUNT(*) FROM jobs WHERE job_status = 1"))


def test_a_multiplier_of_one_leaves_the_rest_to_others(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    one = json.dumps({"worker_prefetch_multiplier": 1})
    start_worker("--concurrency=1", CELERY_SETTINGS=one)
    late.delay("long", 600.0)
    eventually(lambda: ledger(session) == {"begin long"})
    for number in range(5):
        late.delay(number)
    start_worker("--concurrency=1", CELERY_SETTINGS=one)
    eventually(lambda: {f"end {number}" for number in range(5)} <= ledger(session))


def test_a_multiplier_of_zero_claims_all_there_is_up_to_a_cap(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    for number in range(1010):
        session.execute(
            "INSERT INTO jobs (message) VALUES (%s)",
            (json.dumps({"task": "late", "args": [number, 600.0]}),),
        )
    start_worker("--concurrency=1", CELERY_SETTINGS='{"worker_prefetch_multiplier": 0}')
    eventually(lambda: claimed(session) == 1000)
    eventually(lambda: len(ledger(session)) == 1)
    assert claimed(session) == 1000


@pytest.mark.parametrize("pool", [pool for pool in POOLS if pool != "solo"])
def test_a_worker_without_prefetch_leaves_the_rest_to_others(
    session: Session, start_worker: Callable[..., Worker], pool: str
) -> None:
    worker = start_worker("--concurrency=1", "--pool", pool, CELERY_SETTINGS=NO_PREFETCH)
    # acknowledged when it begins, so that its row is gone; the pool is taken all the same
    early.delay("long", 600.0)
    eventually(lambda: ledger(session) == {"begin long"} and claimed(session) == 0)
    for number in range(5):
        early.delay(number)
    start_worker("--concurrency=1", "--pool", pool, CELERY_SETTINGS=NO_PREFETCH)
    eventually(lambda: {f"end {number}" for number in range(5)} <= ledger(session))
    assert "worker_disable_prefetch" not in worker.log


@pytest.mark.parametrize("pool", POOLS)
def test_a_worker_without_prefetch_goes_on_as_tasks_end(
    session: Session, start_worker: Callable[..., Worker], pool: str
) -> None:
    for number in range(6):
        early.delay(f"early {number}", 0.1)
        late.delay(f"late {number}", 0.1)
    start_worker("--pool", pool, CELERY_SETTINGS=NO_PREFETCH)
    eventually(lambda: session.query("SELECT id FROM jobs") == [])
    ended = {f"end {kind} {number}" for kind in ("early", "late") for number in range(6)}
    eventually(lambda: ended <= ledger(session))
