"""The table of periodic tasks, edited while a beat works on it."""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from celery.beat import BeatLazyFunc
from celery.schedules import crontab
from kombu import Connection, Consumer
from kombu.common import Broadcast

from celery_mysqllock import single_instance

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_mysqllock.mysql import Session
    from tests.beat.conftest import InProcess, Sent


def insert(session: Session, name: str, schedule: str = "0.2", **columns: Any) -> None:
    columns = {"task": "tick", "args": f'["{name}"]', **columns}
    columns = {"name": name, "schedule": schedule, **columns}
    session.execute(
        f"INSERT INTO jobs_schedule ({', '.join(columns)}) VALUES %s",  # noqa: S608 - our names
        (tuple(columns.values()),),
    )


def entry(every: Any, name: Any) -> dict[str, Any]:
    return {"task": "tick", "schedule": every, "args": [name]}


def now(session: Session) -> float:
    return float(session.value("SELECT UNIX_TIMESTAMP(NOW(6))"))


# -- edits ----------------------------------------------------------------------------------------


def test_a_row_that_is_inserted_is_sent_on_its_grid(
    session: Session, scheduler: Callable[..., InProcess], sent: Sent
) -> None:
    beat = scheduler()
    beat.look()
    insert(session, "new")
    beat.turns(lambda: sent("new") >= 4)
    sent.assert_each_tick_once("new", 0.2)
    times = sent.due_times("new")
    (row,) = session.query(
        "SELECT total_run_count, last_run_at IS NOT NULL, UNIX_TIMESTAMP(last_due_at) "
        "FROM jobs_schedule"
    )
    assert row[0] == len(times)
    assert row[1]
    assert float(row[2]) == times[-1]


def test_an_edit_is_seen(session: Session, scheduler: Callable[..., InProcess], sent: Sent) -> None:
    beat = scheduler()
    insert(session, "before")
    beat.turns(lambda: sent("before") >= 1)
    session.execute('UPDATE jobs_schedule SET args = \'["after"]\', options = \'{"queue": "q"}\'')
    beat.turns(lambda: sent("after") >= 1)
    assert session.query("SELECT DISTINCT queue FROM jobs ORDER BY queue") == [("celery",), ("q",)]
    so_far = sent("before")
    beat.turns(lambda: sent("after") >= 3)
    assert sent("before") == so_far


def test_a_last_tick_that_is_yet_to_come_does_not_silence_a_task(
    session: Session,
    scheduler: Callable[..., InProcess],
    sent: Sent,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = scheduler()
    insert(session, "ahead")
    first.turns(lambda: sent("ahead") >= 1)
    first.close()
    session.execute("UPDATE jobs_schedule SET last_due_at = UTC_TIMESTAMP(6) + INTERVAL 3 DAY")
    session.execute("DELETE FROM jobs")
    second = scheduler()
    second.turns(lambda: sent("ahead") >= 3)
    assert "'ahead' was last due at" in caplog.text


@pytest.mark.parametrize(
    "edit", ["UPDATE jobs_schedule SET enabled = FALSE", "DELETE FROM jobs_schedule"]
)
def test_a_row_that_is_disabled_or_deleted_is_not_sent_once_more(
    session: Session, scheduler: Callable[..., InProcess], sent: Sent, edit: str
) -> None:
    beat = scheduler()
    insert(session, "old", "0.1")
    beat.turns(lambda: sent("old") >= 1)
    session.execute(edit)
    so_far = sent("old")
    beat.look()
    assert sent("old") == so_far


def test_what_was_due_while_it_was_disabled_is_not_owed(
    session: Session, scheduler: Callable[..., InProcess], sent: Sent
) -> None:
    beat = scheduler()
    insert(session, "one", "0.1")
    beat.turns(lambda: sent("one") >= 1)
    session.execute("UPDATE jobs_schedule SET enabled = FALSE")
    beat.look()
    so_far = sent("one")
    disabled_at = now(session)
    beat.look()
    session.execute("UPDATE jobs_schedule SET enabled = TRUE")
    enabled_at = now(session)
    beat.turns(lambda: sent("one") >= so_far + 2)
    assert not [at for at in sent.due_times("one") if disabled_at < at < enabled_at]


def test_a_schedule_that_becomes_shorter_owes_nothing(
    session: Session, scheduler: Callable[..., InProcess], sent: Sent
) -> None:
    beat = scheduler()
    insert(session, "one", "3600")
    beat.look()
    session.execute("UPDATE jobs_schedule SET last_due_at = UTC_TIMESTAMP(6) - INTERVAL 30 SECOND")
    session.execute("UPDATE jobs_schedule SET schedule = '0.5'")
    edited_at = now(session)
    beat.turns(lambda: sent("one") >= 2)
    assert min(sent.due_times("one")) > edited_at


BAD: dict[str, tuple[str, dict[str, str]]] = {
    "often": ("schedule is 'often'", {"schedule": "often"}),
    "zero": ("schedule is '0'", {"schedule": "0"}),
    "negative": ("schedule is '-3'", {"schedule": "-3"}),
    "no number": ("schedule is 'nan'", {"schedule": "nan"}),
    "late": ("schedule is '61 * * * *'", {"schedule": "61 * * * *"}),
    "short": ("schedule is '* * * *'", {"schedule": "* * * *"}),
    "never": ("schedule is '0 0 30 2 *'", {"schedule": "0 0 30 2 *"}),
    "zone": ("timezone is 'Mars/X'", {"schedule": "0 4 * * *", "timezone": "Mars/X"}),
    "no json": ("args is no JSON", {"args": "[1"}),
    "no array": ("args is {}; it must be a JSON array", {"args": "{}"}),
    "no object": ("kwargs is []; it must be a JSON object", {"kwargs": "[]"}),
    "no options": ("options is 7; it must be a JSON object", {"options": "7"}),
}


def test_rows_that_cannot_be_sent_get_one_line_each_and_the_others_go_on(
    session: Session,
    scheduler: Callable[..., InProcess],
    sent: Sent,
    caplog: pytest.LogCaptureFixture,
) -> None:
    beat = scheduler()
    for name, (_, columns) in BAD.items():
        insert(session, name, **columns)
    insert(session, "good")
    beat.turns(lambda: sent("good") >= 2)
    beat.look()
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(said) == len(BAD)
    for name, (problem, _) in BAD.items():
        start = f"The periodic task {name!r} is not sent: {problem}"
        assert sum(line.startswith(start) for line in said) == 1
    assert {name for (name,) in session.query("SELECT DISTINCT name FROM jobs_ticks")} == {"good"}
    session.execute("UPDATE jobs_schedule SET schedule = '0.2' WHERE name = 'often'")
    beat.turns(lambda: sent("often") >= 1)


def test_a_row_that_somebody_has_locked_is_sent_later_and_the_others_go_on(
    session: Session, scheduler: Callable[..., InProcess], sent: Sent
) -> None:
    beat = scheduler()
    insert(session, "locked", "0.2")
    insert(session, "free", "0.2")
    beat.turns(lambda: sent("locked") >= 1 and sent("free") >= 1)
    session.execute("BEGIN")
    session.query("SELECT * FROM jobs_schedule WHERE name = 'locked' FOR UPDATE")
    so_far = sent("free")
    beat.turns(lambda: sent("free") > so_far + 8)
    session.execute("COMMIT")
    beat.turns(lambda: sent("locked") >= sent("free"))
    sent.assert_each_tick_once("locked", 0.2)


def test_a_job_that_is_too_large_is_over_and_the_others_go_on(
    session: Session, scheduler: Callable[..., InProcess], sent: Sent
) -> None:
    limit = session.value("SELECT @@max_allowed_packet")
    config = {
        "large": entry(0.5, BeatLazyFunc(lambda: "x" * limit)),
        "small": entry(0.5, "small"),
    }
    beat = scheduler(config)
    # MySQL's limit is 64 MiB, which take their time
    beat.turns(lambda: sent("small") >= 2, within=150)
    assert session.value("SELECT COUNT(*) FROM jobs_ticks WHERE reason LIKE %s", ("%bytes%",))


def test_after_a_long_outage_the_last_seconds_are_caught_up_with(
    session: Session,
    scheduler: Callable[..., InProcess],
    sent: Sent,
    caplog: pytest.LogCaptureFixture,
) -> None:
    schedule = {"often": entry(1, "often"), "daily": entry(86400, "daily")}
    first = scheduler(schedule)
    first.look()
    first.close()
    session.execute("DELETE FROM jobs")
    session.execute("UPDATE jobs_schedule SET last_due_at = UTC_TIMESTAMP(6) - INTERVAL 73 HOUR")
    began = now(session)
    second = scheduler(schedule, mysqllock_beat_catch_up=5)
    second.turns(lambda: sent("often") >= 5 and sent("daily") == 1)
    second.look()
    assert sent("daily") == 1
    assert began - 5.1 < min(sent.due_times("often")) < began
    said = " ".join(record.getMessage() for record in caplog.records)
    assert "No beat could send often" in said
    assert "No beat could send daily" in said


def test_old_ticks_are_deleted(
    session: Session, scheduler: Callable[..., InProcess], sent: Sent
) -> None:
    session.execute(
        "INSERT INTO jobs_ticks (name, due_at, sent_at) VALUES "
        "('old', UTC_TIMESTAMP(6) - INTERVAL 25 HOUR, UTC_TIMESTAMP(6)), "
        "('new', UTC_TIMESTAMP(6) - INTERVAL 23 HOUR, UTC_TIMESTAMP(6))"
    )
    scheduler().look()
    assert session.query("SELECT name FROM jobs_ticks") == [("new",)]


def test_a_tick_that_was_sent_is_not_sent_again_whatever_the_table_says(
    session: Session, scheduler: Callable[..., InProcess], sent: Sent
) -> None:
    beat = scheduler()
    insert(session, "one", "0.5")
    beat.turns(lambda: sent("one") >= 3)
    session.execute("UPDATE jobs_schedule SET last_due_at = last_due_at - INTERVAL 1 SECOND")
    beat.look()
    beat.look()
    sent.assert_each_tick_once("one", 0.5)


def test_a_crontab_of_a_time_zone_is_due_there(
    session: Session, scheduler: Callable[..., InProcess], sent: Sent
) -> None:
    insert(session, "there", "30 12 * * *", timezone="Asia/Kolkata")
    insert(session, "here", "30 12 * * *")
    beat = scheduler()
    beat.look()
    session.execute("UPDATE jobs_schedule SET last_due_at = UTC_TIMESTAMP(6) - INTERVAL 1 DAY")
    beat.turns(lambda: sent("there") and sent("here"))
    due = dict(session.query("SELECT name, TIME_FORMAT(due_at, '%H:%i:%s') FROM jobs_ticks"))
    assert due == {"there": "07:00:00", "here": "12:30:00"}


# -- the configuration ----------------------------------------------------------------------------


def test_the_configuration_wins_over_its_own_rows_and_leaves_the_others(
    session: Session, scheduler: Callable[..., InProcess]
) -> None:
    first = scheduler({"kept": entry(100, "kept"), "gone": entry(100, "gone")})
    insert(session, "by hand", "100")
    first.look()
    first.close()
    session.execute("UPDATE jobs_schedule SET schedule = '7', enabled = FALSE WHERE name = 'kept'")
    counted = session.value("SELECT last_due_at FROM jobs_schedule WHERE name = 'by hand'")
    second = scheduler({"kept": entry(200, "kept"), "new": entry(crontab(hour=4, minute=0), "new")})
    second.look()
    assert session.query(
        "SELECT name, schedule, enabled, from_config FROM jobs_schedule ORDER BY name"
    ) == [
        ("by hand", "100", 1, 0),
        ("kept", "200", 0, 1),
        ("new", "0 4 * * *", 1, 1),
    ]
    assert counted == session.value("SELECT last_due_at FROM jobs_schedule WHERE name = 'by hand'")


def test_what_json_cannot_say_is_sent_as_the_configuration_says(
    session: Session, scheduler: Callable[..., InProcess]
) -> None:
    called: list[int] = []

    def call() -> int:
        called.append(1)
        return len(called)

    config = {
        "lazy": {
            "task": "tick",
            "schedule": timedelta(seconds=0.2),
            "args": (BeatLazyFunc(call),),
            "kwargs": {"at": {1, 2}},
        }
    }
    beat = scheduler(config, task_serializer="pickle")
    beat.turns(lambda: session.value("SELECT COUNT(*) FROM jobs") >= 2)
    assert len(called) >= 2
    assert "BeatLazyFunc" in session.value("SELECT args FROM jobs_schedule")


def test_a_task_goes_where_the_app_routes_it(
    session: Session, scheduler: Callable[..., InProcess], sent: Sent
) -> None:
    routes = {"tick": {"queue": "its own", "priority": 7}}
    beat = scheduler({"one": entry(0.2, "one")}, task_routes=routes)
    beat.turns(lambda: sent("one") >= 1)
    (row,) = session.query("SELECT DISTINCT queue, claim_order FROM jobs")
    assert row == ("its own", 2)


def test_a_countdown_is_kept_in_the_table(
    session: Session, scheduler: Callable[..., InProcess], sent: Sent
) -> None:
    beat = scheduler({"one": {**entry(0.2, "one"), "options": {"countdown": 100}}})
    beat.turns(lambda: sent("one") >= 1)
    assert session.query("SELECT DISTINCT job_status FROM jobs") == [(2,)]


def test_a_unique_task_is_not_stored_while_its_job_waits(
    session: Session, scheduler: Callable[..., InProcess]
) -> None:
    beat = scheduler({"one": {**entry(0.2, "one"), "task": "beat.unique"}})

    @beat.app.task(name="beat.unique", shared=False)
    @single_instance(unique_on=["name"], limit=None, unique="queued")
    def unique(name: str) -> None: ...

    def ticks() -> int:
        return int(session.value("SELECT COUNT(*) FROM jobs_ticks WHERE sent_at IS NOT NULL"))

    beat.turns(lambda: ticks() >= 3)
    ((job,),) = session.query("SELECT task_id FROM jobs")
    assert session.query("SELECT DISTINCT task_id FROM jobs_ticks") == [(job,)]
    session.execute("DELETE FROM jobs")
    beat.turns(lambda: session.value("SELECT COUNT(*) FROM jobs"))
    assert session.value("SELECT task_id FROM jobs") != job


def test_a_task_with_an_order_key_waits_in_its_line(
    session: Session, scheduler: Callable[..., InProcess]
) -> None:
    beat = scheduler({"one": {**entry(0.2, "one"), "task": "beat.ordered"}})

    @beat.app.task(name="beat.ordered", shared=False)
    @single_instance(unique_on=["name"], on_conflict="queue")
    def ordered(name: str) -> None: ...

    beat.turns(lambda: session.value("SELECT COUNT(*) FROM jobs") >= 3)
    statuses = [status for (status,) in session.query("SELECT job_status FROM jobs ORDER BY id")]
    assert statuses[:3] == [0, 4, 4]


def test_many_that_are_due_at_once_are_each_sent_once(
    session: Session, scheduler: Callable[..., InProcess], sent: Sent
) -> None:
    names = [f"one of {number}" for number in range(250)]
    for name in names:
        insert(session, name)
    first = scheduler()
    # it is handed over in the middle
    first.turns(lambda: session.value("SELECT COUNT(*) FROM jobs") >= 150)
    first.close()
    second = scheduler()
    second.turns(lambda: all(sent(name) >= 2 for name in names))
    for name in names:
        sent.assert_each_tick_once(name, 0.2)


def test_one_that_cannot_be_sent_holds_up_none_that_is_due_with_it(
    session: Session,
    scheduler: Callable[..., InProcess],
    sent: Sent,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for number in range(5):
        insert(session, f"good {number}")
    insert(session, "bad")
    session.execute(
        "UPDATE jobs_schedule SET options = %s WHERE name = 'bad'",
        ('{"shadow": "' + "s" * 1001 + '"}',),
    )
    beat = scheduler()
    beat.turns(lambda: all(sent(f"good {number}") >= 3 for number in range(5)))
    assert sent("bad") == 0
    assert "bad was not sent" in caplog.text


def test_a_broadcast_is_sent_to_those_that_listen(
    session: Session, scheduler: Callable[..., InProcess]
) -> None:
    received: list[Any] = []

    def has_received(connection: Connection) -> bool:
        with suppress(TimeoutError):
            connection.drain_events(timeout=0.05)
        return bool(received)

    with (
        Connection(session.address.url()) as connection,
        Consumer(connection, [Broadcast("everyone")], on_message=received.append, no_ack=True),
    ):
        broadcast = {**entry(0.5, "tick"), "options": {"queue": "everyone"}}
        beat = scheduler({"tick": broadcast}, task_queues=[Broadcast("everyone")])
        beat.turns(lambda: has_received(connection))
    assert received[0].headers["task"] == "tick"
    assert session.query("SELECT id FROM jobs") == []
