"""The signals of the broker's life, sent by real workers."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from celery_mysqllock import signals
from celery_mysqllock.broker.events import SignalSender
from celery_mysqllock.jobs import Control, LockNames, events
from tests.broker.app import give_back, hang, note, refuse
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_mysqllock.mysql import Session
    from tests.broker.worker import Worker

pytestmark = pytest.mark.usefixtures("producer_url")
LISTENING = ("-I", "tests.broker.signal_log")


def sent(worker: Worker, name: str) -> list[dict[str, Any]]:
    """The arguments of each signal of that name."""
    found = re.findall(rf"signal {name} (\{{.*?\}});", worker.log)
    return [json.loads(arguments) for arguments in found]


def await_sent(worker: Worker, name: str, times: int = 1) -> list[dict[str, Any]]:
    eventually(lambda: len(sent(worker, name)) >= times, what=f"{times} {name}")
    return sent(worker, name)


def test_the_claims_of_a_killed_worker_are_told_by_another_one(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    options = '{"recovery_grace": 1}'
    victim = start_worker(*LISTENING, BROKER_OPTIONS=options)
    jobs = [hang.delay(number).id for number in range(2)]
    eventually(lambda: len(session.query("SELECT entry FROM ledger")) == 2)
    claimed = await_sent(victim, "job_claimed", 2)
    (sweeper,) = await_sent(victim, "became_sweeper")
    heir = start_worker(*LISTENING, BROKER_OPTIONS=options)
    victim.kill()
    recovered = await_sent(heir, "job_recovered", 2)
    (died,) = await_sent(heir, "consumer_died")
    place = LockNames.of(session, "jobs").qualified
    assert [one["task_id"] for one in claimed] == jobs
    assert {one["sender"] for one in (*claimed, *recovered, died, sweeper)} == {place}
    assert {one["consumer"] for one in (*claimed, *recovered, died, sweeper)} == {died["consumer"]}
    assert {one["job_id"] for one in recovered} == {one["job_id"] for one in claimed}
    assert {(one["queue"], one["deliveries"]) for one in claimed} == {("celery", 0)}
    assert {(one["queue"], one["deliveries"]) for one in recovered} == {("celery", 1)}
    assert died["jobs"] == 2
    assert [one["deliveries"] for one in await_sent(heir, "job_claimed", 2)] == [1, 1]
    (heirs,) = await_sent(heir, "became_sweeper")
    assert heirs["consumer"] == sent(heir, "job_claimed")[0]["consumer"] != died["consumer"]


def test_a_dead_job_is_told_with_its_reason(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    worker = start_worker(*LISTENING, BROKER_OPTIONS='{"max_deliveries": 2}')
    session.execute("INSERT INTO jobs (message) VALUES ('{\"task\": 5}')")
    give_back.delay()
    refuse.delay()
    await_sent(worker, "job_dead", 3)
    dead = "SELECT id, reason FROM jobs WHERE job_status = 3 ORDER BY id"
    eventually(lambda: len(session.query(dead)) == 3)
    told = sorted((one["job_id"], one["reason"]) for one in sent(worker, "job_dead"))
    assert told == session.query(dead)
    assert "'task' is 5" in told[0][1]
    assert "2 times" in told[1][1] or "max_deliveries" in told[1][1]
    for job_id, reason in told:
        headline = reason.partition("\n")[0]
        worker.await_log(
            f"Job {job_id} in {LockNames.of(session, 'jobs').qualified} is dead: {headline}"
        )


def test_a_job_whose_worker_died_too_often_is_dead_and_not_recovered(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    options = '{"recovery_grace": 1, "max_deliveries": 1}'
    victim = start_worker(BROKER_OPTIONS=options)
    hang.delay(0)
    eventually(lambda: len(session.query("SELECT entry FROM ledger")) == 1)
    heir = start_worker(*LISTENING, BROKER_OPTIONS=options)
    victim.kill()
    (dead,) = await_sent(heir, "job_dead")
    (died,) = await_sent(heir, "consumer_died")
    assert dead["consumer"] == died["consumer"]
    assert dead["reason"] == session.value("SELECT reason FROM jobs WHERE job_status = 3")
    assert sent(heir, "job_recovered") == []


def test_a_pause_is_told_once_by_the_sweeper(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    worker = start_worker(*LISTENING, BROKER_OPTIONS='{"polling_interval": 0.2}')
    await_sent(worker, "became_sweeper")
    note.delay("before")
    eventually(lambda: session.query("SELECT entry FROM ledger") == [("before",)])
    control = Control(session, "jobs")
    control.pause("celery")
    assert await_sent(worker, "queue_paused")[0]["queue"] == "celery"
    control.resume("celery")
    assert await_sent(worker, "queue_resumed")[0]["queue"] == "celery"
    note.delay("after")
    eventually(lambda: len(session.query("SELECT entry FROM ledger")) == 2)
    assert len(sent(worker, "queue_paused")) == len(sent(worker, "queue_resumed")) == 1


def test_a_receiver_with_a_fault_breaks_nothing(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    worker = start_worker(*LISTENING, RECEIVERS_FAIL="1")
    refuse.delay()
    for number in range(10):
        note.delay(number)
    eventually(lambda: len(session.query("SELECT entry FROM ledger")) == 10)
    await_sent(worker, "job_dead")
    worker.await_log("a receiver's own fault")
    assert worker.stop() == 0


def test_a_signal_without_a_receiver_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("sent")

    monkeypatch.setattr(signals.job_claimed, "send", never)
    assert not signals.job_claimed.receivers
    SignalSender("shop.jobs").tell(events.JobClaimed(1, None, "celery", 0, "me"))


def test_an_error_of_sending_goes_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("the log is full")

    monkeypatch.setattr(signals.job_dead, "send", fail)
    SignalSender("shop.jobs").tell(events.JobDead(1, "why", "me"))
