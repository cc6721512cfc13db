"""Several beats, one of which sends; whoever is next goes on where the last one stood."""

from __future__ import annotations

import os
import signal
from functools import partial
from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.jobs import LockNames, Migrations
from celery_mysqllock.locks import MySQLLock
from celery_mysqllock.mysql import used_by
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_mysqllock.mysql import Session
    from tests.beat.beat import Beat
    from tests.beat.conftest import InProcess, Sent

EVERY = 0.5


def holder(session: Session) -> int | None:
    number: int | None = session.value(
        "SELECT IS_USED_LOCK(%s)", (LockNames.of(session, "jobs").beat,)
    )
    return number


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_standby_goes_on_where_the_active_beat_ended(
    session: Session, start_beat: Callable[..., Beat], sent: Sent, number: signal.Signals
) -> None:
    beats = [start_beat(f"beat-{at}", {"tick": EVERY}) for at in range(2)]
    eventually(lambda: sum("the active one" in beat.log for beat in beats) == 1)
    eventually(lambda: sum("stands by" in beat.log for beat in beats) == 1)
    beats.sort(key=lambda beat: "the active one" not in beat.log)
    eventually(lambda: sent("tick") >= 2)
    beats[0].end(number)
    beats[1].await_active()
    so_far = sent("tick")
    eventually(lambda: sent("tick") >= so_far + 3)
    beats[1].kill()
    sent.assert_each_tick_once("tick", EVERY)


def test_what_was_due_while_nobody_was_there_is_sent_once(
    session: Session, start_beat: Callable[..., Beat], sent: Sent
) -> None:
    first = start_beat("first", {"tick": EVERY})
    eventually(lambda: sent("tick") >= 1)
    first.kill()
    before = sent("tick")
    eventually(
        lambda: session.value(
            "SELECT last_due_at < UTC_TIMESTAMP(6) - INTERVAL 2 SECOND FROM jobs_schedule"
        )
    )
    second = start_beat("second", {"tick": EVERY})
    eventually(lambda: sent("tick") >= before + 5)
    second.kill()
    sent.assert_each_tick_once("tick", EVERY)


def test_many_hand_overs_neither_skip_nor_double(
    session: Session, start_beat: Callable[..., Beat], sent: Sent
) -> None:
    beats = [start_beat(f"beat-{at}", {"tick": 0.1}) for at in range(4)]
    for _ in range(3):
        eventually(lambda: holder(session))
        so_far = sent("tick")
        eventually(lambda so_far=so_far: sent("tick") > so_far + 3)  # type: ignore[misc]
        active = max(beats, key=lambda beat: beat.log.count("Sending due task"))
        active.kill()
        beats.remove(active)
    so_far = sent("tick")
    eventually(lambda: sent("tick") > so_far + 3)
    beats[0].kill()
    sent.assert_each_tick_once("tick", 0.1)


def test_a_beat_whose_session_is_killed_stops_at_once_and_stands_by(
    session: Session, start_beat: Callable[..., Beat], sent: Sent
) -> None:
    first = start_beat("first", {"tick": EVERY})
    first.await_active()
    second = start_beat("second", {"tick": EVERY})
    second.await_standby()
    eventually(lambda: sent("tick") >= 1)
    session.execute("KILL %s", (holder(session),))
    second.await_active()
    first.await_log("has lost its lock; it sends nothing and stands by")
    by_first = first.log.count("Sending due task")
    so_far = sent("tick")
    eventually(lambda: sent("tick") >= so_far + 3)
    assert first.log.count("Sending due task") == by_first
    assert sent.gaps("tick") == {EVERY}


def test_a_stopped_beat_that_lost_its_lock_meanwhile_sends_nothing(
    session: Session, start_beat: Callable[..., Beat], sent: Sent
) -> None:
    first = start_beat("first", {"tick": EVERY})
    eventually(lambda: sent("tick") >= 1)
    os.kill(first.process.pid, signal.SIGSTOP)
    session.execute("KILL %s", (holder(session),))
    second = start_beat("second", {"tick": EVERY})
    second.await_active()
    by_first = first.log.count("Sending due task")
    os.kill(first.process.pid, signal.SIGCONT)
    first.await_log("stands by")
    assert first.log.count("Sending due task") == by_first
    second.kill()
    first.await_active(2)
    first.kill()
    sent.assert_each_tick_once("tick", EVERY)


def test_a_standby_ends_at_once(session: Session, start_beat: Callable[..., Beat]) -> None:
    start_beat("first").await_active()
    second = start_beat("second")
    second.await_standby()
    eventually(
        lambda: session.value(
            "SELECT COUNT(*) FROM information_schema.processlist "
            "WHERE db = DATABASE() AND info LIKE 'SELECT GET_LOCK%' AND state = 'User lock'"
        )
    )
    assert second.end(signal.SIGTERM) == 0
    assert "Traceback" not in second.log


def test_a_worker_with_a_beat_in_it_takes_part(
    session: Session, start_beat: Callable[..., Beat], sent: Sent
) -> None:
    worker = start_beat(
        *("worker", {"tick": EVERY}, "worker", "-B", "--scheduler=mysqllock"),
        *("--queues=other", "--concurrency=1"),
    )
    worker.await_log(" ready.")
    eventually(lambda: sent("tick") >= 2)
    second = start_beat("second", {"tick": EVERY})
    second.await_standby()
    worker.end(signal.SIGTERM)
    second.await_active()
    so_far = sent("tick")
    eventually(lambda: sent("tick") > so_far)
    assert sent.gaps("tick") == {EVERY}


def test_a_missing_table_ends_the_beat_with_the_command_that_makes_it(
    session: Session, start_beat: Callable[..., Beat]
) -> None:
    session.execute("DROP TABLE jobs")
    beat = start_beat("first")
    assert beat.process.wait(60) != 0
    assert "no table jobs_schedule" in beat.log
    assert "mysqllock migrate" in beat.log


def test_each_table_of_a_database_has_an_active_beat(
    session: Session, scheduler: Callable[..., InProcess]
) -> None:
    Migrations(session, "jobs_b").apply()
    schedule = {"tick": {"task": "t", "schedule": EVERY, "args": ("tick",)}}
    one = scheduler(schedule)
    other = scheduler(schedule, broker_transport_options={"table": "jobs_b"})
    for beat, table in ((one, "jobs"), (other, "jobs_b")):
        sent = partial(session.value, f"SELECT COUNT(*) FROM {table}")  # noqa: S608 - a name of this test
        beat.turns(lambda sent=sent: sent() > 1)  # type: ignore[misc]
        assert used_by(session, LockNames.of(session, table).beat) is not None


def test_beats_of_one_table_are_in_one_line_whatever_the_namespace_of_their_locks(
    session: Session, scheduler: Callable[..., InProcess]
) -> None:
    schedule = {"tick": {"task": "t", "schedule": EVERY, "args": ("tick",)}}
    one = scheduler(schedule)
    one.turns(lambda: holder(session))
    active = holder(session)
    other = scheduler(schedule, mysqllock_namespace="another")
    with MySQLLock("beat", url=session.address):
        other.look()
        one.look()
    assert holder(session) == active
