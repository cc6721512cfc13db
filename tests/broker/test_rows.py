"""Jobs that other programs write: the fields of a row's JSON, and text for a task."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from celery import group
from celery.exceptions import TaskRevokedError
from celery.result import AsyncResult
from kombu import Queue

from celery_mysqllock.mysql import Address, Session
from tests.broker.app import app, note
from tests.broker.worker import POOLS
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kombu import Connection

    from tests.broker.worker import Worker

pytestmark = pytest.mark.usefixtures("producer_url")
# What no worker knows is dead at once.
OPTIONS = '{"text_task": null, "unknown_task_grace": null}'
NOW = datetime.now(UTC)
PAST, FUTURE = NOW - timedelta(hours=1), NOW + timedelta(hours=1)


def ledger(session: Session) -> list[str]:
    return [row[0] for row in session.query("SELECT entry FROM ledger")]


def insert(session: Session, task: str = "note", **fields: Any) -> int:
    """INSERT a row as a program does that names no column but the message; return its id."""
    session.execute(
        "INSERT INTO jobs (message) VALUES (%s)", (json.dumps({"task": task, **fields}),)
    )
    return int(session.value("SELECT LAST_INSERT_ID()"))


def row(session: Session, job_id: int, columns: str) -> tuple[Any, ...]:
    return tuple(session.query(f"SELECT {columns} FROM jobs WHERE id = %s", (job_id,))[0])  # noqa: S608 - names of columns


def in_other_zone(at: datetime) -> str:
    return at.astimezone(timezone(timedelta(hours=-7, minutes=-30))).isoformat()


@pytest.fixture
def solo(start_worker: Callable[..., Worker]) -> Worker:
    """A worker that runs one task after another."""
    return start_worker("--pool", "solo")


def test_a_row_whose_eta_is_to_come_waits_in_the_table_and_runs_when_it_is_due(
    session: Session, solo: Worker
) -> None:
    due = time.time() + 3
    near = insert(session, "stamp", args=[due], eta=datetime.fromtimestamp(due, UTC).isoformat())
    far = insert(session, args=["far"], eta=in_other_zone(FUTURE), priority=7)
    insert(session, args=["now"])
    eventually(lambda: ledger(session) == ["now"])
    assert row(session, near, "job_status, owner, deliveries") == (2, None, 0)
    columns = "job_status, owner, deliveries, claim_order, ROUND(TIMESTAMPDIFF(SECOND, %s, due_at))"
    assert session.query(
        f"SELECT {columns} FROM jobs WHERE id = %s",  # noqa: S608 - names of columns
        (FUTURE.replace(tzinfo=None), far),
    ) in ([(2, None, 0, 2, seconds)] for seconds in (-1, 0, 1))
    eventually(lambda: len(ledger(session)) == 2)
    assert float(ledger(session)[1]) >= 0
    eventually(lambda: session.query("SELECT id FROM jobs") == [(far,)])
    assert not solo.has_ended


ETAS = {
    "in the past": PAST.isoformat(),
    "in the past, in another zone": in_other_zone(PAST),
    "without a zone, which is UTC": PAST.replace(tzinfo=None).isoformat(),
    "with a Z": PAST.strftime("%Y-%m-%dT%H:%M:%SZ"),
    "in minutes": PAST.strftime("%Y-%m-%d %H:%M"),
    "a zone of hours": "2001-02-03T04:05:06.7+01",
    "a day": "2001-02-03",
    "null": None,
}


def test_a_row_whose_eta_is_over_runs_at_once(session: Session, solo: Worker) -> None:
    for name, eta in ETAS.items():
        insert(session, args=[name], eta=eta)
    eventually(lambda: len(ledger(session)) == len(ETAS))
    assert ledger(session) == list(ETAS)


def test_a_row_of_another_queue_is_moved_there_and_runs_there(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    here = start_worker("--pool", "solo")
    moved = insert(session, args=["there"], queue="there", priority=9)
    insert(session, args=["here"], queue="celery")
    eventually(lambda: ledger(session) == ["here"])
    assert row(session, moved, "queue, job_status, claim_order, owner, deliveries") == (
        *("there", 0, 0, None, 0),
    )
    there = start_worker("--pool", "solo", "-Q", "there")
    eventually(lambda: ledger(session) == ["here", "there"])
    assert "succeeded" in here.log
    there.await_log("succeeded")
    eventually(lambda: session.query("SELECT id FROM jobs") == [])


def test_a_worker_of_both_queues_does_not_move_a_row_to_and_fro(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    start_worker("--pool", "solo", "-Q", "celery,there")
    for number in range(200):
        insert(session, args=[number], queue="there" if number % 2 else "celery")
    eventually(lambda: len(ledger(session)) == 200)
    assert sorted(map(int, ledger(session))) == list(range(200))
    eventually(lambda: session.query("SELECT id FROM jobs") == [])


@pytest.fixture
def results(session: Session, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A result backend that the worker and this process share."""
    backend = f"file://{tmp_path_factory.mktemp('results')}"
    app.conf.result_backend = backend
    app.__dict__.pop("backend", None)
    app._local.__dict__.pop("backend", None)  # noqa: SLF001 - made anew for the setting
    yield backend
    app.conf.result_backend = None
    app._local.__dict__.pop("backend", None)  # noqa: SLF001


def test_what_has_expired_is_revoked_and_what_has_not_runs(
    session: Session, start_worker: Callable[..., Worker], results: str
) -> None:
    over = {"late": PAST.isoformat(), "zone": in_other_zone(PAST), "seconds": 0}
    for name, expires in over.items():
        insert(session, args=[name], expires=expires, id=name)
    insert(session, args=["before its eta"], expires=0, eta=FUTURE.isoformat(), id="eta")
    for name, expires in {"in time": FUTURE.isoformat(), "in an hour": 3600.5}.items():
        insert(session, args=[name], expires=expires)
    start_worker("--pool", "solo", RESULT_BACKEND=results)
    eventually(lambda: len(ledger(session)) == 2)
    eventually(lambda: session.query("SELECT id FROM jobs") == [])
    assert ledger(session) == ["in time", "in an hour"]
    assert [AsyncResult(name, app=app).state for name in [*over, "eta"]] == ["REVOKED"] * 4


@pytest.mark.parametrize("pool", POOLS)
def test_a_job_that_has_expired_is_revoked_for_whoever_waits(
    session: Session, start_worker: Callable[..., Worker], results: str, pool: str
) -> None:
    kept = {"ignore_result": False}
    late = [note.apply_async(("late",), expires=0.01, **kept) for _ in range(3)]
    delayed = note.apply_async(("delayed",), countdown=0.1, expires=0.2, **kept)
    held = group(note.s("in a group").set(expires=0.01, **kept), note.s("too"))()
    # the server's clock says so, the worker's does not
    ahead = note.apply_async(("ahead",), expires=600, **kept)
    session.execute("UPDATE jobs SET expires_at = '2020-01-01' WHERE task_id = %s", (ahead.id,))
    # nobody can revoke this
    session.execute("INSERT INTO jobs (message, expires_at) VALUES ('text', '2020-01-01')")
    time.sleep(0.3)
    start_worker("--pool", pool, RESULT_BACKEND=results)
    for result in (*late, delayed, ahead, held[0]):
        with pytest.raises(TaskRevokedError):
            result.get(timeout=30)
    eventually(lambda: ledger(session) == ["too"])
    eventually(lambda: session.query("SELECT id, reason FROM jobs") == [])


def test_what_has_expired_is_dropped_where_no_worker_consumes(
    session: Session, connect: Callable[..., Connection]
) -> None:
    note.apply_async(("late",), expires=0.01, queue="q")
    note.apply_async(("in time",), queue="q")
    session.execute("UPDATE jobs SET expires_at = '2020-01-01' WHERE expires_at IS NOT NULL")
    connection, received = connect(), []
    with connection.Consumer([Queue("q")], callbacks=[lambda _, message: received.append(message)]):
        connection.drain_events(timeout=10)
    assert [message.payload[0] for message in received] == [["in time"]]
    received[0].ack()
    eventually(lambda: session.query("SELECT id FROM jobs") == [])
    note.apply_async(("late",), expires=600, queue="q")
    note.apply_async(("in time",), queue="q")
    session.execute("UPDATE jobs SET expires_at = '2020-01-01' WHERE expires_at IS NOT NULL")
    message = Queue("q")(connection.default_channel).get()
    assert message.payload[0] == ["in time"]
    assert Queue("q")(connection.default_channel).get() is None


def test_the_id_of_a_row_is_that_of_its_task(
    session: Session, start_worker: Callable[..., Worker], results: str
) -> None:
    insert(session, "add", args=[1, 2], id="in the JSON")
    session.execute(
        "INSERT INTO jobs (message, task_id) VALUES (%s, 'in the column')",
        ('{"task": "add", "args": [3, 4]}',),
    )
    message = '{"task": "add", "kwargs": {"a": 5, "b": 6}}'
    ((_, returned),) = session.query("CALL mysqllock_publish(NULL, %s)", (message,))
    start_worker("--pool", "solo", RESULT_BACKEND=results)
    found = [
        AsyncResult(name, app=app).get(timeout=30) for name in ("in the JSON", "in the column")
    ]
    assert [*found, AsyncResult(returned, app=app).get(timeout=30)] == [3, 7, 11]


def test_plain_text_goes_to_the_task_of_its_queue(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    for queue in ("celery", "lines", "other"):
        session.execute("INSERT INTO jobs (message, queue) VALUES ('a line', %s)", (queue,))
    start_worker(
        *("--pool", "solo", "-Q", "celery,lines,other"),
        BROKER_OPTIONS='{"text_task": {"lines": "text", "celery": "early"}}',
    )
    eventually(lambda: len(ledger(session)) == 3)
    assert sorted(ledger(session)) == ["a line", "begin a line", "end a line"]
    eventually(lambda: session.query("SELECT queue FROM jobs") == [("other",)])
    assert "plain text in queue 'other'" in session.value("SELECT reason FROM jobs")


# Fields of a row, and what its reason says when it is dead.
BAD_FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    "a task that is a number": ({"task": 7}, "'task' is 7; it must be a string"),
    "a task without a name": ({"task": ""}, "'task' is \"\""),
    "args that are an object": ({"args": {"a": 1}}, "'args' is {"),
    "args that are text": ({"args": "abc"}, "it must be a JSON array"),
    "kwargs that are an array": ({"kwargs": [1]}, "it must be a JSON object"),
    "an id that is a number": ({"id": 5}, "'id' is 5"),
    "an id that is too long": ({"id": "x" * 256}, "1 to 255 characters"),
    "an id of half a character": ({"id": "\ud83e"}, "'id' is"),
    "an eta that is a number": ({"eta": 5}, "'eta' is 5; it must be a time"),
    "an eta that is no time": ({"eta": "tomorrow"}, "'eta' is \"tomorrow\"; it must be a time"),
    "an eta that is no day": ({"eta": "2030-02-30"}, "'eta' is"),
    "an eta that is two": ({"eta": "2030-01-01 2030-01-02"}, "'eta' is"),
    "an eta beyond all times": ({"eta": "9999-12-31T23:00:00-12:00"}, "'eta' is"),
    "an expiry that is no time": ({"expires": "soon"}, "'expires' is"),
    "an expiry that is true": ({"expires": True}, "or a number of seconds"),
    "an expiry beyond all times": ({"expires": 1e300}, "'expires' is 1e+300"),
    "an expiry that is no number": ({"expires": float("nan")}, "'expires' is NaN"),
    "a priority that is text": ({"priority": "high"}, "whole number from 0 to 9"),
    "a priority that is a fraction": ({"priority": 1.5}, "whole number from 0 to 9"),
    "a priority that is too high": ({"priority": 10}, "whole number from 0 to 9"),
    "a queue that is a list": ({"queue": ["a"]}, "'queue' is ["),
    "a queue that is too long": ({"queue": "q" * 256}, "1 to 255 characters"),
    "a queue of half a character": ({"queue": "\ud83e"}, "'queue' is"),
    "an unknown field": ({"countdown": 5}, "unknown field 'countdown'; known are task"),
    "too few arguments": ({"args": []}, "does not take the arguments: note() missing"),
    "too many arguments": ({"args": [1, 2]}, "does not take the arguments: note() takes"),
    "an argument of another name": ({"kwargs": {"nope": 1}}, "does not take the arguments"),
    "an unknown task": ({"task": "unheard_of"}, "no task 'unheard_of'"),
}
# Messages that are no such object.
BAD_MESSAGES = {
    '{"task": "note", "args": [1]': "no JSON object",
    '{"args": [1]}': "no JSON object",
    "[" * 100_000: "no JSON object",
    '{"task": "note", "args": [' + "1" * 5000 + "]}": "no JSON object",
}


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_a_row_that_cannot_run_is_kept_as_dead_and_the_worker_goes_on(
    session: Session, start_worker: Callable[..., Worker], pool: str
) -> None:
    session.execute("ALTER TABLE jobs MODIFY message LONGTEXT NULL")
    session.execute("INSERT INTO jobs (message) VALUES (NULL)")
    expected = {session.value("SELECT LAST_INSERT_ID()"): "The message is NULL"}
    for fields, reason in BAD_FIELDS.values():
        expected[insert(session, **{"args": ["x"], **fields})] = reason
    for message, reason in BAD_MESSAGES.items():
        session.execute("INSERT INTO jobs (message) VALUES (%s)", (message,))
        expected[session.value("SELECT LAST_INSERT_ID()")] = reason
    worker = start_worker("--pool", pool, BROKER_OPTIONS=OPTIONS)
    note.delay("still here")
    eventually(lambda: ledger(session) == ["still here"] or worker.has_ended)
    assert not worker.has_ended, worker.log
    eventually(lambda: not session.query("SELECT 1 FROM jobs WHERE job_status <> 3"))
    said = dict(session.query("SELECT id, reason FROM jobs"))
    assert {
        job: (said.get(job), part) for job, part in expected.items() if part not in said[job]
    } == {}


@pytest.mark.parametrize(
    ("change", "left"),
    [
        ("DELETE FROM jobs", []),
        ("UPDATE jobs SET job_status = 3, owner = NULL", [(3, None)]),
        ("UPDATE jobs SET owner = REPEAT('f', 32), job_status = 3", [(3, "f" * 32)]),
        ("UPDATE jobs SET message = 'changed', queue = 'nowhere'", []),
    ],
    ids=["deleted", "made dead", "given to somebody", "changed"],
)
def test_a_row_that_is_changed_by_hand_while_it_runs_does_not_stop_the_worker(
    session: Session, start_worker: Callable[..., Worker], change: str, left: list[object]
) -> None:
    worker = start_worker("--pool", "threads", BROKER_OPTIONS='{"recovery_grace": 600}')
    insert(session, "late", args=["one", 1.5])
    eventually(lambda: ledger(session) == ["begin one"])
    session.execute(change)
    eventually(lambda: ledger(session) == ["begin one", "end one"])
    note.delay("next")
    eventually(lambda: ledger(session) == ["begin one", "end one", "next"])
    eventually(lambda: session.query("SELECT job_status, owner FROM jobs") == left)
    assert not worker.has_ended
    if change.startswith("UPDATE jobs SET message"):
        assert "not this consumer's" not in worker.log
    else:
        assert re.search(r"Of \d+ jobs? settled, 1 had been given back", worker.log)


def test_a_row_that_is_queued_by_hand_while_it_runs_runs_again(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    start_worker("--pool", "threads", "--concurrency=2")
    insert(session, "late", args=["one", 2.0])
    eventually(lambda: ledger(session) == ["begin one"])
    session.execute("UPDATE jobs SET job_status = 0")
    eventually(lambda: sorted(ledger(session)) == ["begin one", "begin one", "end one", "end one"])
    eventually(lambda: session.query("SELECT id FROM jobs") == [])


def test_a_worker_claims_under_the_lock_of_older_programs(
    session: Session, start_worker: Callable[..., Worker], url: str
) -> None:
    with Session(Address.parse(url)) as older:
        older.value("SELECT GET_LOCK('queue', 0)")
        start_worker("--pool", "solo", BROKER_OPTIONS='{"legacy_lock": "queue"}')
        insert(session, args=["x"])
        waiting = (
            "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE() "
            "AND info LIKE 'SELECT GET_LOCK(%queue%' AND state = 'User lock'"
        )
        eventually(lambda: session.value(waiting))
        assert session.query("SELECT job_status FROM jobs") == [(0,)]
        older.value("SELECT RELEASE_LOCK('queue')")
        eventually(lambda: ledger(session) == ["x"])
