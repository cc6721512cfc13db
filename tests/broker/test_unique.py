"""A unique task is stored once at a time for its key, with real workers and however it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from celery import chain, group

from tests.broker.app import (
    app,
    early,
    late,
    note,
    once,
    once_hang,
    once_refuse,
    once_retry,
    queue_once,
)
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from celery import Task

    from celery_mysqllock.mysql import Session
    from tests.broker.worker import Worker

pytestmark = pytest.mark.usefixtures("producer_url")

IDS = "SELECT task_id FROM jobs ORDER BY id"


def ids(session: Session) -> list[str]:
    return [row[0] for row in session.query(IDS)]


def entries(session: Session) -> list[str]:
    return [row[0] for row in session.query("SELECT entry FROM ledger")]


def await_entry(session: Session, entry: str) -> None:
    eventually(lambda: entry in entries(session), what=entry)


def is_empty(session: Session) -> bool:
    return ids(session) == []


@pytest.mark.parametrize("task", [once, queue_once], ids=["until_done", "queued"])
def test_a_second_call_gets_the_result_of_the_job_that_is_there(
    session: Session, start_worker: Callable[..., Worker], task: Task
) -> None:
    first = task.delay("7")
    assert task.delay("7").id == first.id
    assert task.apply_async(("7",), countdown=60, priority=9).id == first.id
    other = task.delay("8")
    assert ids(session) == [first.id, other.id]
    start_worker()
    eventually(lambda: is_empty(session), what="an empty table")
    assert sorted(entries(session)) == ["begin 7", "begin 8", "end 7", "end 8"]
    assert task.delay("7").id != first.id


def test_each_kind_of_a_call_is_said_by_the_task_or_by_the_call(session: Session) -> None:
    first = once.delay("7")
    queued = once.apply_async(("7",), unique="queued")
    assert once.apply_async(("7",), unique="queued").id == queued.id != first.id
    plain = once.apply_async(("7",), unique=None)
    assert ids(session) == [first.id, queued.id, plain.id]


def test_a_scheduled_job_has_its_key(session: Session) -> None:
    first = queue_once.apply_async(("7",), countdown=3600)
    assert queue_once.delay("7").id == first.id
    assert ids(session) == [first.id]


def test_while_a_job_runs_queued_lets_one_more_in_and_until_done_none(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    start_worker("--concurrency=2", "--prefetch-multiplier=1")
    first, other = queue_once.delay("a", 600), once.delay("b", 600)
    await_entry(session, "begin a")
    await_entry(session, "begin b")
    app.control.cancel_consumer("celery", reply=True, timeout=5)
    second = queue_once.delay("a")
    assert second.id != first.id
    assert queue_once.delay("a").id == second.id
    assert once.delay("b").id == other.id


def test_the_key_stays_with_a_job_whose_worker_was_killed_until_it_has_run_again(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    worker = start_worker()
    first = once_hang.delay("x")
    await_entry(session, "begin x")
    worker.kill()
    assert once_hang.delay("x").id == first.id
    start_worker()
    await_entry(session, "again x")
    eventually(lambda: is_empty(session), what="an empty table")
    assert entries(session) == ["begin x", "again x"]
    assert once_hang.delay("x").id != first.id


def test_a_retry_keeps_the_key_and_is_not_taken_for_a_second_call(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    start_worker()
    first = once_retry.delay("x", 1, 3600)
    scheduled = "SELECT COUNT(*) FROM jobs WHERE job_status = 2"
    eventually(lambda: session.value(scheduled) == 1 and len(ids(session)) == 1, what="the retry")
    assert ids(session) == [first.id]
    assert once_retry.delay("x", 1, 3600).id == first.id
    assert ids(session) == [first.id]


def test_many_retries_at_once_all_run_and_free_their_keys_at_last(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    start_worker("--concurrency=4")
    sent = {once_retry.delay(str(number), 3, 0).id for number in range(20)}
    eventually(lambda: len(entries(session)) == 80, what="all attempts")
    eventually(lambda: is_empty(session), what="an empty table")
    assert len(set(entries(session))) == 80
    assert not {once_retry.delay(str(number), 0, 0).id for number in range(20)} & sent


def test_a_retry_of_a_call_that_was_not_unique_is_not_either(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    start_worker()
    once_retry.apply_async(("x", 1, 3600), unique=None)
    scheduled = "SELECT COUNT(*) FROM jobs WHERE job_status = 2"
    eventually(lambda: session.value(scheduled) == 1, what="the retry")
    assert session.query("SELECT unique_key FROM jobs WHERE job_status = 2") == [(None,)]


def test_a_dead_job_has_no_key(session: Session, start_worker: Callable[..., Worker]) -> None:
    start_worker()
    first = once_refuse.delay()
    dead = "SELECT COUNT(*) FROM jobs WHERE job_status = 3"
    eventually(lambda: session.value(dead) == 1, what="a dead job")
    assert once_refuse.delay().id != first.id


def test_a_finished_job_that_is_kept_has_no_key(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    start_worker(BROKER_OPTIONS='{"retention": "7d"}')
    first = once.delay("x")
    finished = "SELECT COUNT(*) FROM jobs WHERE finished_at IS NOT NULL"
    eventually(lambda: session.value(finished) == 1, what="a finished job")
    assert once.delay("x").id != first.id


def test_purged_jobs_have_no_key(session: Session) -> None:
    first = once.delay("x")
    assert app.control.purge() == 1
    assert once.delay("x").id != first.id
    assert len(ids(session)) == 1


def test_an_expired_job_has_no_key(session: Session) -> None:
    first = once.apply_async(("x",), expires=3600)
    assert once.delay("x").id == first.id
    session.execute("UPDATE jobs SET expires_at = UTC_TIMESTAMP(6)")
    assert once.delay("x").id != first.id


def test_a_revoked_job_has_no_key_though_it_is_due_in_an_hour(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    start_worker()
    first = once.apply_async(("x",), countdown=3600)
    assert once.delay("x").id == first.id
    app.control.revoke(first.id, reply=True, timeout=5)
    second = once.delay("x")
    assert second.id != first.id
    await_entry(session, "end x")
    eventually(lambda: ids(session) == [first.id], what="the end of the second job")


def test_a_revoked_job_that_runs_keeps_its_key(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    start_worker()
    first = once.delay("x", 600)
    await_entry(session, "begin x")
    app.control.revoke(first.id, reply=True, timeout=5)
    assert once.delay("x").id == first.id
    app.control.revoke(first.id, terminate=True, signal="SIGKILL", reply=True, timeout=5)
    eventually(lambda: once.delay("x", 0).id != first.id, what="a free key")


def test_what_is_waited_for_by_its_id_is_stored_in_any_case(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    first = once.delay("x")
    given = once.apply_async(("x",), task_id="mine")
    assert given.id == "mine"
    chain(note.si("before"), once.si("x"), note.si("after")).delay()
    group(once.s("x"), once.s("x")).delay()
    assert once.delay("x").id == first.id
    start_worker()
    await_entry(session, "after")
    eventually(lambda: is_empty(session), what="an empty table")
    assert entries(session).count("begin x") == 5


def test_a_chord_of_unique_tasks_completes_though_its_keys_are_taken(
    session: Session,
    start_worker: Callable[..., Worker],
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    backend = {"RESULT_BACKEND": f"file://{tmp_path}"}
    program = (
        "from celery import chord\n"
        "from tests.broker.app import once\n"
        "once.delay('x')\n"
        "chord([once.s('x'), once.s('x')], once.si('x')).delay()\n"
    )
    subprocess.run([sys.executable, "-c", program], env={**environment, **backend}, check=True)
    start_worker(**backend)
    eventually(lambda: entries(session).count("end x") == 4, what="the chord's end")


def test_a_unique_callback_that_is_there_already_is_none_of_the_tasks_business(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    first = once.apply_async(("x",), countdown=3600)
    start_worker()
    late.apply_async(("y",), link=once.si("x"))
    eventually(lambda: ids(session) == [first.id], what="the table with the callback's job")
    assert "end y" in entries(session)


def test_a_row_of_another_program_may_have_a_key_and_the_id_is_the_one_it_runs_under(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    session.execute(
        "INSERT INTO jobs (message, unique_key) VALUES (%s, %s)",
        ('{"task": "once", "args": ["x"]}', 'until_done:once:{"entry":"x"}'),
    )
    found = once.delay("x")
    worker = start_worker()
    await_entry(session, "end x")
    worker.await_log(f"once[{found.id}] succeeded")


def test_many_processes_at_once_store_one_job_a_key_and_all_get_its_id(
    session: Session, environment: dict[str, str]
) -> None:
    program = (
        "import json, sys\n"
        "from tests.broker.app import queue_once\n"
        "queue_once.apply_async(('warm up',), unique=None)\n"
        "sys.stdin.read(1)\n"
        "print(json.dumps([queue_once.delay(str(key)).id for key in range(50)]))\n"
    )
    callers = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        for _ in range(8)
    ]
    eventually(lambda: len(ids(session)) == 8, within=60, what="all programs")
    session.execute("DELETE FROM jobs")
    for caller in callers:
        assert caller.stdin is not None
        caller.stdin.write("\n")
        caller.stdin.flush()
    answers = {caller.communicate(timeout=60)[0] for caller in callers}
    assert len(answers) == 1
    assert sorted(json.loads(answers.pop())) == sorted(ids(session))
    assert len(ids(session)) == 50


def test_a_call_that_is_not_stored_costs_no_connection(session: Session) -> None:
    connections = "SELECT id FROM information_schema.processlist WHERE db = DATABASE() ORDER BY id"
    first = once.delay("x")
    before = session.query(connections)
    assert once.delay("x").id == first.id
    assert session.query(connections) == before


def test_a_connection_of_the_callers_own_may_be_used(session: Session) -> None:
    first = once.delay("x")
    with app.connection_for_write() as connection:
        assert once.apply_async(("x",), connection=connection).id == first.id
    with app.producer_pool.acquire(block=True) as producer:
        assert once.apply_async(("x",), producer=producer).id == first.id
    assert ids(session) == [first.id]


def test_plain_tasks_are_sent_as_ever(session: Session) -> None:
    sent = [early.delay("x").id for _ in range(3)]
    assert ids(session) == sent
    assert session.query("SELECT DISTINCT unique_key FROM jobs") == [(None,)]
