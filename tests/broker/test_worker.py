"""Real workers on the job table: what runs, what is kept, and what a kill does."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.exceptions import NoSuchSession
from tests.broker.app import fatal, hang, late, note, refuse
from tests.broker.worker import POOLS
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_mysqllock.mysql import Session
    from tests.broker.worker import Worker

StartWorker = "Callable[..., Worker]"


THREE_AT_MOST = '{"max_deliveries": 3, "recovery_grace": 1}'
pytestmark = pytest.mark.usefixtures("producer_url")


def ledger(session: Session) -> list[str]:
    return [row[0] for row in session.query("SELECT entry FROM ledger")]


def await_ledger(session: Session, entries: list[str]) -> None:
    eventually(lambda: sorted(ledger(session)) == sorted(entries), what=str(entries))


@pytest.mark.parametrize("pool", POOLS)
def test_tasks_and_bare_rows_run_in_each_pool(
    session: Session, start_worker: Callable[..., Worker], pool: str
) -> None:
    worker = start_worker("--pool", pool)
    for number in range(20):
        note.delay(number)
        session.execute(
            "INSERT INTO jobs (message) VALUES (%s)",
            (f'{{"task": "note", "args": ["row {number}"]}}',),
        )
    session.execute("INSERT INTO jobs (message) VALUES ('any text')")
    rows = [f"row {number}" for number in range(20)]
    await_ledger(session, [*map(str, range(20)), *rows, "any text"])
    assert worker.stop() == 0
    assert session.query("SELECT id FROM jobs") == []


def test_what_cannot_run_is_kept_as_dead_with_its_reason_and_the_worker_goes_on(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    start_worker(BROKER_OPTIONS='{"text_task": null, "unknown_task_grace": null}')
    for message in (
        "any text",
        '{"task": 5}',
        '{"task": "unheard_of"}',
        '{"task": "note", "a": 1}',
    ):
        session.execute("INSERT INTO jobs (message) VALUES (%s)", (message,))
    refuse.delay()
    note.delay("still here")
    await_ledger(session, ["still here"])
    dead = "SELECT reason FROM jobs WHERE job_status = 3 ORDER BY id"
    eventually(lambda: len(session.query(dead)) == 5)
    for reason, expected in zip(
        [row[0] for row in session.query(dead)],
        ["text_task", "'task' is 5", "no task 'unheard_of'", "unknown field 'a'", "Rejected"],
        strict=True,
    ):
        assert expected in reason


def test_the_jobs_of_a_killed_worker_run_in_another_and_say_that_they_are_redelivered(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    victim = start_worker()
    for number in range(4):
        hang.delay(number)
    eventually(lambda: len(ledger(session)) == 2)
    heir = start_worker()
    victim.kill()
    begun = ledger(session)
    eventually(lambda: len([e for e in ledger(session) if e.startswith("again")]) == 4)
    assert len(ledger(session)) == len(begun) + 4
    heir.await_log("is dead; 4 jobs returned to the queue.")
    eventually(lambda: session.query("SELECT id FROM jobs") == [])


def test_a_single_job_is_said_as_one(session: Session, start_worker: Callable[..., Worker]) -> None:
    victim = start_worker()
    hang.delay(0)
    eventually(lambda: ledger(session) != [])
    heir = start_worker()
    victim.kill()
    heir.await_log("is dead; 1 job returned to the queue.")


def test_a_job_that_kills_its_workers_is_dead_after_so_many_deliveries(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    workers = [start_worker("--pool", "solo", BROKER_OPTIONS=THREE_AT_MOST) for _ in range(4)]
    fatal.delay()
    dead = "SELECT reason FROM jobs WHERE job_status = 3"
    eventually(lambda: session.query(dead), within=60)
    assert "3" in session.value(dead)
    assert sorted(ledger(session)) == [
        "redelivered False after 0",
        "redelivered True after 1",
        "redelivered True after 2",
    ]
    assert sum(worker.has_ended for worker in workers) == 3
    note.delay("still here")
    eventually(lambda: "still here" in ledger(session))


def test_a_warm_shutdown_ends_what_runs_and_gives_back_the_rest(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    worker = start_worker()
    for number in range(8):
        late.delay(number, 2.0)
    eventually(lambda: len(ledger(session)) == 2)
    assert worker.stop() == 0
    ended = {entry.split()[1] for entry in ledger(session) if entry.startswith("end")}
    begun = {entry.split()[1] for entry in ledger(session) if entry.startswith("begin")}
    assert ended == begun
    assert session.query("SELECT job_status, COUNT(*) FROM jobs GROUP BY 1") == [
        (0, 8 - len(ended))
    ]


def test_a_worker_whose_sessions_are_killed_reconnects_and_goes_on(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    worker = start_worker()
    note.delay("before")
    await_ledger(session, ["before"])
    mine = "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> %s"
    for (other,) in session.query(mine, (session.connection_id,)):
        # one that has ended by itself meanwhile is as good
        with contextlib.suppress(NoSuchSession):
            session.execute("KILL %s", (other,))
    worker.await_log("Connection to broker lost")
    note.delay("after")
    await_ledger(session, ["before", "after"])


def test_a_long_task_in_the_solo_pool_is_not_delivered_twice(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    late.delay("long", 8.0)
    start_worker("--pool", "solo", BROKER_OPTIONS='{"session_timeout": 3}')
    eventually(lambda: ledger(session) == ["begin long"])
    start_worker("--pool", "solo", BROKER_OPTIONS='{"session_timeout": 3}')
    await_ledger(session, ["begin long", "end long"])
    eventually(lambda: session.query("SELECT id FROM jobs") == [])
    assert len(ledger(session)) == 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("mysql://u:secret@127.0.0.1:1", "names no database"),
        ("mysql://:secret@127.0.0.1:1/x", "names no user"),
    ],
)
def test_a_worker_with_a_wrong_url_says_what_is_wrong(
    start_worker: Callable[..., Worker], wrong: str, message: str
) -> None:
    with pytest.raises(AssertionError) as caught:
        start_worker(BROKER_URL=wrong)
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)
