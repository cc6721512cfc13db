"""Whatever way a task ends in, its job is settled, and its place in the worker is free again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.broker.app import leave, note
from tests.broker.worker import POOLS
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_mysqllock.mysql import Session
    from tests.broker.worker import Worker

StartWorker = "Callable[..., Worker]"
# More than a worker of two takes at once.
_MANY = 10


@pytest.mark.usefixtures("producer_url")
@pytest.mark.parametrize("kind", ["exit", "interrupt"])
@pytest.mark.parametrize("pool", [pool for pool in POOLS if pool not in ("prefork", "solo")])
def test_a_task_that_wants_to_end_the_process_ends_itself(
    session: Session, start_worker: Callable[..., Worker], pool: str, kind: str
) -> None:
    worker = start_worker("--pool", pool)
    for _ in range(_MANY):
        leave.delay(kind)
    note.delay("after")
    eventually(lambda: session.query("SELECT entry FROM ledger") == [("after",)], 60, "the last")
    eventually(lambda: session.value("SELECT COUNT(*) FROM jobs WHERE job_status < 3") == 0)
    assert worker.stop() == 0


@pytest.mark.usefixtures("producer_url")
@pytest.mark.parametrize("pool", POOLS)
def test_a_failed_task_with_a_chain_that_is_none_ends(
    session: Session, start_worker: Callable[..., Worker], pool: str
) -> None:
    worker = start_worker("--pool", pool)
    for _ in range(_MANY):
        session.execute(
            """INSERT INTO jobs (message) VALUES ('{"body": [["x", "y"], {}, {"chain": [{"task":
            "note"}]}], "body-encoding": "json", "content-type": "application/json",
            "content-encoding": "utf-8", "headers": {"task": "add", "id": "odd"},
            "properties": {}}')"""
        )
    note.delay("after")
    eventually(lambda: session.query("SELECT entry FROM ledger") == [("after",)], 60, "the last")
    eventually(lambda: session.value("SELECT COUNT(*) FROM jobs WHERE job_status < 3") == 0)
    assert not worker.has_ended
