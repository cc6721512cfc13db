"""Real workers that are paused and resumed, and what is known of them and their failures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.jobs import Control, Inspection, JobStatus, LockNames, Selection
from celery_mysqllock.mysql import free_among
from tests.broker.app import broken, late, note, refuse
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_mysqllock.jobs import Job
    from celery_mysqllock.mysql import Session
    from tests.broker.worker import Worker

pytestmark = pytest.mark.usefixtures("producer_url")


def entries(session: Session) -> set[str]:
    return {row[0] for row in session.query("SELECT entry FROM ledger")}


def dead(session: Session) -> Job:
    found = eventually(lambda: Inspection(session).jobs(Selection(status=JobStatus.DEAD)))
    return found[0]


def claimed(session: Session) -> int:
    return int(session.value("SELECT COUNT(*) FROM jobs WHERE owner IS NOT NULL"))


def sleepers(session: Session, queue: str) -> int:
    """How many idle workers can be rung."""
    names = LockNames.of(session, "jobs").bells(queue)
    return len(names) - len(free_among(session, names))


def test_a_fleet_is_paused_and_resumed(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    # the sweeper must not come to the help of a worker that nobody has woken
    options = {"BROKER_OPTIONS": '{"polling_interval": 60}'}
    workers = [start_worker("--prefetch-multiplier=1", **options) for _ in range(2)]
    late.delay("runs", 2.0)
    eventually(lambda: "begin runs" in entries(session))
    control = Control(session)
    control.pause("celery")
    for number in range(8):
        late.delay(number, 0.2)
    note.apply_async(("other queue",), queue="other")
    # what runs goes on, and a job of it that ends makes no worker claim another one
    eventually(lambda: "end runs" in entries(session))
    eventually(lambda: claimed(session) == 0)
    late.delay(8, 0.2)
    assert entries(session) == {"begin runs", "end runs"}
    assert Inspection(session).queues()[0].ready == 9
    eventually(lambda: sleepers(session, "celery") == 2)
    control.resume("celery")
    eventually(lambda: {f"end {number}" for number in range(9)} <= entries(session))
    # both were woken, and not the first alone
    assert len(set(session.query("SELECT pid FROM ledger WHERE entry LIKE 'begin %%'"))) == 2
    assert all(worker.stop() == 0 for worker in workers)


def test_a_worker_that_starts_claims_nothing_of_a_paused_queue(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    Control(session).pause("celery")
    note.delay("waits")
    start_worker("-Q", "celery,other")
    note.apply_async(("other",), queue="other")
    eventually(lambda: "other" in entries(session))
    assert entries(session) == {"other"}
    Control(session).resume("celery")
    eventually(lambda: "waits" in entries(session))


@pytest.mark.parametrize("pool", ["prefork", "solo", "threads"])
def test_a_task_that_fails_and_is_rejected_is_dead_with_its_traceback_and_can_be_retried(
    pool: str, session: Session, start_worker: Callable[..., Worker]
) -> None:
    start_worker(f"--pool={pool}")
    broken.delay("x")
    job = dead(session)
    assert job.reason is not None
    assert job.reason.startswith("ValueError: x is broken\n\nTraceback (most recent call last):\n")
    assert 'raise ValueError(f"{entry} is broken")' in job.reason
    session.execute("INSERT INTO ledger VALUES ('mended', 0)")
    assert Control(session).retry([job.id]) == 1
    eventually(lambda: "x" in entries(session))
    eventually(lambda: session.query("SELECT id FROM jobs") == [])


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_a_task_that_rejects_itself_is_dead_with_what_it_said(
    pool: str, session: Session, start_worker: Callable[..., Worker]
) -> None:
    start_worker(f"--pool={pool}")
    refuse.delay()
    reason = dead(session).reason or ""
    assert reason.startswith("Rejected by the task: no thanks\n\nTraceback")
    assert 'raise Reject("no thanks", requeue=False)' in reason


def test_the_workers_are_on_the_list_of_consumers_while_they_live(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    inspection = Inspection(session)
    killed, stopped = start_worker(), start_worker("-Q", "celery,other")
    one, two = inspection.consumers()
    assert (one.name, one.queues, one.is_alive) == ("worker-0@test", ("celery",), True)
    assert (two.name, two.queues, two.is_alive) == ("worker-1@test", ("celery", "other"), True)
    killed.kill()
    eventually(lambda: [known.name for known in inspection.consumers()] == ["worker-1@test"])
    late.delay("long", 3.0)
    eventually(lambda: inspection.consumers()[0].claims == 1)
    assert inspection.jobs(Selection(status=JobStatus.RUNNING))[0].consumer == "worker-1@test"
    assert stopped.stop() == 0
    assert inspection.consumers() == []


def test_the_rate_counts_what_workers_end(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    start_worker()
    for number in range(30):
        note.delay(number)
    eventually(lambda: session.query("SELECT id FROM jobs") == [])
    written = "SELECT COALESCE(SUM(ended), 0) FROM jobs_throughput WHERE queue = 'celery'"
    eventually(lambda: session.value(written) == 30)
    assert Inspection(session).queues()[0].rate > 0
