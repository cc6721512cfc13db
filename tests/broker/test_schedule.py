"""Delayed tasks wait in the table; expiry and priority do what RabbitMQ's do."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from kombu import Connection, Consumer, Queue

from tests.broker.app import app, note, stamp
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_mysqllock.mysql import Session
    from tests.broker.worker import Worker

StartWorker = "Callable[..., Worker]"
pytestmark = pytest.mark.usefixtures("producer_url")


def ledger(session: Session) -> list[str]:
    return [row[0] for row in session.query("SELECT entry FROM ledger")]


def test_delayed_tasks_wait_in_the_table_and_run_when_they_are_due(
    session: Session, start_worker: Callable[..., Worker], record_property: Callable[..., None]
) -> None:
    start_worker()
    due = [time.time() + 3.0 + number / 10 for number in range(10)]
    for at in due:
        stamp.apply_async((at,), eta=datetime.fromtimestamp(at, UTC))
    assert session.query("SELECT job_status, COUNT(*) FROM jobs GROUP BY 1") == [(2, 10)]
    eventually(lambda: len(ledger(session)) == 10)
    delays = sorted(float(entry) for entry in ledger(session))
    assert delays[0] >= 0
    # measured, and not asserted
    record_property("milliseconds_late", [round(delay * 1000, 1) for delay in delays])


def test_a_worker_claims_no_delayed_task(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    with app.producer_pool.acquire() as producer:
        for number in range(300):
            note.apply_async((number,), countdown=3600, producer=producer)
    start_worker()
    note.delay("now")
    eventually(lambda: ledger(session) == ["now"])
    eventually(
        lambda: session.query("SELECT job_status, COUNT(*) FROM jobs GROUP BY 1") == [(2, 300)]
    )
    assert session.value("SELECT COUNT(owner) FROM jobs") == 0


def test_a_task_that_has_expired_is_not_run(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    note.apply_async(("late",), expires=0.2)
    note.apply_async(("in time",), expires=600)
    past = datetime.now(UTC) - timedelta(seconds=5)
    note.apply_async(("long ago",), expires=past)
    eventually(
        lambda: session.value("SELECT COUNT(*) FROM jobs WHERE expires_at <= UTC_TIMESTAMP(6)") >= 1
    )
    start_worker()
    eventually(lambda: ledger(session) == ["in time"])
    eventually(lambda: session.query("SELECT id FROM jobs") == [])
    assert ledger(session) == ["in time"]


def test_the_greater_priority_runs_first_and_equals_in_their_order(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    for number, priority in enumerate([0, 5, 9, 5, 0, 9]):
        note.apply_async((f"{priority} {number}",), priority=priority)
    start_worker("--pool", "solo")
    eventually(lambda: len(ledger(session)) == 6)
    assert ledger(session) == ["9 2", "9 5", "5 1", "5 3", "0 0", "0 4"]


def test_the_ttl_of_a_queue_holds_for_its_messages(
    connect: Callable[..., Connection], session: Session
) -> None:
    connection = connect()
    queue = Queue("q", message_ttl=0.2)
    with connection.Producer() as producer:
        producer.publish(1, routing_key="q", declare=[queue])
    eventually(lambda: session.value("SELECT expires_at <= UTC_TIMESTAMP(6) FROM jobs"))
    assert queue(connection.default_channel).get() is None
    assert session.query("SELECT id FROM jobs") == []


def test_a_queue_that_expires_goes_and_one_in_use_stays(
    connect: Callable[..., Connection], session: Session
) -> None:
    connection = connect()
    used, unused = Queue("used", expires=0.5), Queue("unused", expires=0.5)
    unused(connection.default_channel).declare()
    with Consumer(connection, [used], on_message=lambda _: None):
        names = "SELECT queue FROM jobs_ephemeral_queues"
        eventually(lambda: session.query(names) == [("used",)])
    eventually(lambda: session.query(names) == [])


def test_a_reply_to_a_client_that_is_gone_is_dropped(
    connect: Callable[..., Connection], session: Session
) -> None:
    connection = connect()
    with connection.Producer() as producer:
        producer.publish("reply", routing_key="gone", delivery_mode="transient")
        producer.publish("job", routing_key="kept", delivery_mode="persistent")
    assert session.query("SELECT queue FROM jobs") == [("kept",)]
