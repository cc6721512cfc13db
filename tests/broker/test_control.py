"""Remote control, events and mingle, with real workers and Celery's own commands."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

from tests.broker.app import late, note
from tests.broker.commands import celery, replies
from tests.broker.worker import POOLS
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_mysqllock.mysql import Session
    from tests.broker.worker import Worker

StartWorker = "Callable[..., Worker]"
pytestmark = pytest.mark.usefixtures("producer_url")
ME = "worker-0@test"


def ledger(session: Session) -> list[str]:
    return [row[0] for row in session.query("SELECT entry FROM ledger")]


def ephemeral_queues(session: Session) -> int:
    return int(session.value("SELECT COUNT(*) FROM jobs_ephemeral_queues"))


@pytest.mark.parametrize("pool", POOLS)
def test_workers_of_each_pool_answer_a_ping(
    session: Session, start_worker: Callable[..., Worker], pool: str
) -> None:
    start_worker("--pool", pool)
    start_worker("--pool", pool)
    url = session.address.url()
    assert replies(url, "inspect", "ping") == {
        "worker-0@test": {"ok": "pong"},
        "worker-1@test": {"ok": "pong"},
    }
    assert session.query("SELECT id FROM jobs") == []


def test_inspect_says_what_a_worker_is_doing(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    start_worker()
    url = session.address.url()
    late.apply_async(("seen", 600.0), task_id="the-id")
    eventually(lambda: ledger(session) == ["begin seen"])
    assert replies(url, "inspect", "active")[ME][0]["id"] == "the-id"
    assert "late" in replies(url, "inspect", "registered")[ME]
    assert replies(url, "inspect", "stats")[ME]["pool"]["max-concurrency"] == 2
    assert replies(url, "inspect", "active_queues")[ME][0]["name"] == "celery"
    assert replies(url, "inspect", "reserved")[ME] == []
    assert replies(url, "inspect", "scheduled")[ME] == []
    assert replies(url, "inspect", "query_task", "the-id")[ME]["the-id"][0] == "active"
    assert replies(url, "inspect", "clock")[ME]["clock"] > 0
    for command in ("conf", "report"):
        said = str(replies(url, "inspect", command)[ME])
        assert "mysql://" in said
        assert session.address.password not in said
    assert "1 node online" in celery(url, "status", "--timeout=3")


@pytest.mark.parametrize("pool", POOLS)
def test_a_worker_shows_what_is_scheduled_in_its_queues(
    session: Session, start_worker: Callable[..., Worker], pool: str
) -> None:
    due = datetime.now(UTC) + timedelta(hours=1)
    late.apply_async(("b",), {"seconds": 1.5}, eta=due, task_id="the-id", priority=3)
    note.apply_async(("elsewhere",), eta=due, queue="elsewhere")
    deep = "[" * 900 + "]" * 900
    for message in ('{"task": "note", "args": ["a"]}', "text", f'{{"args": {deep}}}', "[" * 50_000):
        session.execute(
            "INSERT INTO jobs (message, job_status, due_at, task_id)"
            " VALUES (%s, 2, UTC_TIMESTAMP() + INTERVAL 30 MINUTE, 'row')",
            (message,),
        )
    start_worker("--pool", pool)
    found = eventually(lambda: replies(session.address.url(), "inspect", "scheduled"))[ME]
    first, *_, last = found
    assert (first["request"]["name"], first["request"]["args"]) == ("note", ["a"])
    assert [one["request"]["id"] for one in found] == ["row"] * 4 + ["the-id"]
    assert last == {
        "eta": due.isoformat(),
        "priority": 6,
        "request": {
            "id": "the-id",
            "name": "late",
            "args": ["b"],
            "kwargs": {"seconds": 1.5},
            "type": "late",
            "hostname": ME,
            "time_start": None,
            "acknowledged": False,
            "delivery_info": {
                "exchange": "",
                "routing_key": "celery",
                "priority": 3,
                "redelivered": False,
            },
            "worker_pid": None,
        },
    }


def test_what_a_worker_shows_of_the_schedule_is_bounded(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    for size in (10, 70_000):
        session.execute(
            "INSERT INTO jobs (message, job_status, due_at)"
            " SELECT %s, 2, UTC_TIMESTAMP() + INTERVAL 1 HOUR"
            " FROM information_schema.columns LIMIT 900",
            (json.dumps({"task": "note", "args": ["x" * size]}),),
        )
    start_worker("--pool", "solo")
    found = eventually(lambda: replies(session.address.url(), "inspect", "scheduled"))[ME]
    assert len(found) == 500


def test_control_changes_a_running_worker(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    worker = start_worker()
    url = session.address.url()
    assert "new rate limit" in str(replies(url, "control", "rate_limit", "note", "100/s")[ME])
    assert "ok" in str(replies(url, "control", "pool_grow", "1")[ME])
    eventually(lambda: len(replies(url, "inspect", "stats")[ME]["pool"]["processes"]) == 3)
    note.apply_async(("elsewhere",), queue="other")
    assert "add consumer" in str(replies(url, "control", "add_consumer", "other")[ME])
    eventually(lambda: ledger(session) == ["elsewhere"])
    assert "no longer" in str(replies(url, "control", "cancel_consumer", "other")[ME])
    note.apply_async(("stays",), queue="other")
    note.apply_async(("runs",))
    eventually(lambda: "runs" in ledger(session))
    assert session.query("SELECT queue, job_status FROM jobs") == [("other", 0)]
    assert "will shrink" in str(replies(url, "control", "pool_shrink", "2")[ME])
    eventually(lambda: len(replies(url, "inspect", "stats")[ME]["pool"]["processes"]) == 1)
    # a worker that ends does not answer, on any broker
    assert celery(url, "control", "--timeout=2", "shutdown", code=69) == ""
    assert worker.wait() == 0


def test_control_changes_the_limits_of_tasks(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    worker = start_worker()
    url = session.address.url()
    assert "new rate limit" in str(replies(url, "control", "rate_limit", "note", "1/h")[ME])
    for number in range(3):
        note.delay(number)
    # Celery 5.7 uses it from the next connection on, whatever the broker
    assert "limits set" in str(replies(url, "control", "time_limit", "late", "5", "9")[ME])
    worker.await_log("New time limits for tasks of type late: soft=5.0 hard=9.0")
    assert len(ledger(session)) == 1
    assert "new rate limit" in str(replies(url, "control", "rate_limit", "note", "1000/s")[ME])
    note.delay("last")
    eventually(lambda: "last" in ledger(session))


def test_commands_show_change_and_empty_queues(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    start_worker()
    url = session.address.url()
    assert f"{ME}.celery.pidbox" in celery(url, "list", "bindings")
    note.apply_async((1,), queue="unread")
    note.apply_async((2,), queue="unread", countdown=600)
    assert "queue:unread messages:1" in celery(url, "amqp", "queue.declare", "unread", "yes")
    assert "Purged 2 messages" in celery(url, "purge", "--force", "--queues=unread")
    assert session.query("SELECT id FROM jobs") == []


def test_the_report_names_the_driver_and_its_release(session: Session) -> None:
    assert f"PyMySQL:{version('PyMySQL')}" in celery(session.address.url(), "report")


def test_revoke_with_terminate_ends_a_task(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    worker = start_worker()
    running = late.delay("long", 600.0)
    eventually(lambda: ledger(session) == ["begin long"])
    celery(session.address.url(), "control", "terminate", "SIGTERM", running.id)
    worker.await_log("Terminating")
    eventually(lambda: session.query("SELECT id FROM jobs") == [])
    assert ledger(session) == ["begin long"]


def test_a_scheduled_task_can_be_revoked_and_mingle_passes_it_on(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    first = start_worker()
    delayed = note.apply_async(("never",), countdown=12.0)
    assert session.query("SELECT job_status FROM jobs") == [(2,)]
    url = session.address.url()
    assert "revoked" in str(replies(url, "control", "revoke", delayed.id)[ME])
    assert replies(url, "inspect", "revoked")[ME] == [delayed.id]
    start_worker().await_log("mingle: sync complete")
    assert first.stop() == 0
    eventually(lambda: session.query("SELECT id FROM jobs") == [])
    assert ledger(session) == []


def test_events_reach_who_listens_and_cost_nothing_when_nobody_does(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    start_worker("-E")
    for number in range(20):
        note.delay(number)
    eventually(lambda: len(ledger(session)) == 20)
    table = "SELECT auto_increment FROM information_schema.tables WHERE table_schema = DATABASE()"
    session.execute("ANALYZE TABLE jobs_ephemeral_messages")
    inserted = session.value(f"{table} AND table_name = 'jobs_ephemeral_messages'")
    assert inserted in {None, 0, 1}
    seen: list[str] = []
    with note.app.connection_for_read() as connection:
        receiver = note.app.events.Receiver(
            connection, handlers={"*": lambda event: seen.append(event["type"])}
        )
        with receiver.consumer_context() as (draining, _, _):
            # for a second the worker holds what it knew about listeners for true
            time.sleep(1.1)
            note.delay("watched")
            while "task-succeeded" not in seen:
                draining.drain_events(timeout=10)
    assert {"task-received", "task-started", "task-succeeded"} <= set(seen)


def test_the_events_command_dumps_what_happens(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    worker = start_worker()
    assert "enabled" in str(replies(session.address.url(), "control", "enable_events")[ME])
    dump = subprocess.Popen(
        [
            *(sys.executable, "-m", "celery", "-A", "tests.broker.app"),
            *("-b", session.address.url(), "events", "--dump"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    with dump:
        bound = "SELECT COUNT(*) FROM jobs_bindings WHERE exchange = 'celeryev'"
        eventually(lambda: session.value(bound))
        # for a second the worker holds what it knew about listeners for true
        time.sleep(1.1)
        note.delay("dumped")
        assert dump.stdout is not None
        assert any("task succeeded" in line for line in dump.stdout)
        dump.kill()
    eventually(lambda: session.value(bound) == 0, within=60)
    assert "Traceback" not in worker.log


def test_the_ephemeral_queues_of_a_killed_worker_go(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    victim = start_worker()
    start_worker()
    before = ephemeral_queues(session)
    assert before >= 2
    victim.kill()
    eventually(lambda: 0 < ephemeral_queues(session) < before)
    assert list(replies(session.address.url(), "inspect", "ping")) == ["worker-1@test"]


def test_an_idle_worker_keeps_its_control_queue(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    start_worker()
    session.execute("UPDATE jobs_ephemeral_queues SET expires = 0.1, touched_at = '2020-01-01'")
    tidied = "INSERT INTO jobs_ephemeral_queues VALUES ('x', NULL, 0, 0.1, NULL, '2020-01-01')"
    session.execute(tidied)
    eventually(lambda: not session.query("SELECT 1 FROM jobs_ephemeral_queues WHERE queue = 'x'"))
    assert replies(session.address.url(), "inspect", "ping") == {ME: {"ok": "pong"}}
