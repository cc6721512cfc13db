"""When a task is due depends on its schedule and its last tick, and on nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from celery import Celery
from celery.schedules import crontab, schedule

from celery_mysqllock.beat.due import first_due, next_due

NOON = datetime(2026, 3, 3, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
APP = Celery("due", set_as_current=False)


def every(seconds: float, **options: Any) -> schedule:
    return schedule(seconds, app=APP, **options)


def cron(text: str, zone: str | None = None) -> crontab:
    kind = crontab.from_string(text)
    kind.app = APP
    if zone:
        kind.tz = ZoneInfo(zone)
    return kind


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def run(kind: Any, last: datetime, count: int) -> list[datetime]:
    ticks = []
    for _ in range(count):
        last = next_due(kind, last)
        ticks.append(last)
    return ticks


def test_an_interval_keeps_to_its_grid() -> None:
    odd = NOON + timedelta(microseconds=123)
    assert run(every(0.1), odd, 3) == [odd + timedelta(seconds=s) for s in (0.1, 0.2, 0.3)]


def test_a_relative_interval_is_due_by_the_clock() -> None:
    assert next_due(every(3600, relative=True), NOON + 25 * MINUTE) == NOON + 60 * MINUTE


@pytest.mark.parametrize(
    ("fields", "last", "due"),
    [
        ("* * * * *", "2026-03-03 12:00:00", "2026-03-03 12:01:00"),
        ("*/15 * * * *", "2026-03-03 12:50:07.5", "2026-03-03 13:00:00"),
        ("0 4 * * *", "2026-03-03 04:00:00", "2026-03-04 04:00:00"),
        ("30 8 * * mon", "2026-03-03 12:00:00", "2026-03-09 08:30:00"),
        ("0 0 29 2 *", "2026-03-03 12:00:00", "2028-02-29 00:00:00"),
    ],
)
def test_a_crontab_is_due_at_its_minute(fields: str, last: str, due: str) -> None:
    assert next_due(cron(fields), utc(last)) == utc(due)


@pytest.mark.parametrize(
    ("last", "due"),
    [
        # winter, the night in which the clocks are put forward, and summer
        ("2026-03-27 03:00:00", "2026-03-28 03:00:00"),
        ("2026-03-28 03:00:00", "2026-03-29 02:00:00"),
        ("2026-03-29 02:00:00", "2026-03-30 02:00:00"),
        # and back
        ("2026-10-24 02:00:00", "2026-10-25 03:00:00"),
    ],
)
def test_a_crontab_follows_the_clocks_of_its_zone(last: str, due: str) -> None:
    assert next_due(cron("0 4 * * *", "Europe/Berlin"), utc(last)) == utc(due)


@pytest.mark.parametrize("start", ["2026-03-28 12:00:00", "2026-10-24 12:00:00"])
@pytest.mark.parametrize("fields", ["30 2 * * *", "*/20 2,3 * * *", "* * * * *"])
def test_ticks_go_forward_when_the_clocks_change(start: str, fields: str) -> None:
    ticks = run(cron(fields, "Europe/Berlin"), utc(start), 2000)
    assert ticks == sorted(set(ticks))
    if fields.startswith("30"):
        days = [tick.astimezone(ZoneInfo("Europe/Berlin")).date() for tick in ticks]
        assert len(set(days)) == len(days)


NIGHTS = {
    "Europe/Berlin": "2026-10-24 22:00:00",
    "America/New_York": "2026-11-01 03:00:00",
    "Australia/Lord_Howe": "2026-04-04 13:00:00",  # half an hour
    "Europe/Dublin": "2026-03-28 23:00:00",
}


@pytest.mark.parametrize("zone", NIGHTS)
@pytest.mark.parametrize(
    "fields",
    ["* * * * *", "*/10 * * * *", "30 * * * *", "30 2 * * *", "*/7 1,2 * * *", "0 0 * * 0"],
)
def test_a_crontab_can_be_counted_from_any_moment_of_the_night(zone: str, fields: str) -> None:
    kind, begin = cron(fields, zone), utc(NIGHTS[zone])
    for minute in range(6 * 60):
        last = begin + timedelta(minutes=minute)
        assert next_due(kind, last) > last


@pytest.mark.parametrize("zone", NIGHTS)
@pytest.mark.parametrize(("fields", "minutes"), [("*/10 * * * *", 10), ("15 * * * *", 60)])
def test_what_is_due_each_hour_is_due_in_the_hour_that_comes_twice(
    zone: str, fields: str, minutes: int
) -> None:
    ticks = run(cron(fields, zone), utc(NIGHTS[zone]), 40)
    gaps = {after - before for before, after in pairwise(ticks)}
    if zone != "Australia/Lord_Howe" or minutes == 10:
        assert gaps == {timedelta(minutes=minutes)}


class TestCatchingUp:
    """What is sent of the ticks that nobody could send in time."""

    def test_all_of_the_last_seconds(self) -> None:
        now = NOON + timedelta(seconds=10.5)
        assert first_due(every(1), NOON, now, MINUTE) == NOON + timedelta(seconds=1)

    def test_after_a_long_outage_those_of_the_last_minute(self) -> None:
        now = NOON + timedelta(days=30, seconds=0.5)
        due = first_due(every(1), NOON, now, MINUTE)
        assert due == NOON + timedelta(days=30, seconds=-59)

    @pytest.mark.parametrize("fields", ["*/5 * * * *", "0 * * * *", "0 4 * * *", "0 0 1 * *"])
    def test_of_a_crontab_at_least_the_newest(self, fields: str) -> None:
        kind, now = cron(fields), utc("2026-07-03 12:34:56")
        due = first_due(kind, utc("2026-01-05 12:00:00"), now, MINUTE)
        assert due <= now < next_due(kind, due)

    def test_of_an_interval_at_least_the_newest(self) -> None:
        now = NOON + timedelta(days=30, minutes=30)
        assert first_due(every(3600), NOON, now, MINUTE) == NOON + timedelta(days=30)

    def test_of_calendar_days_at_least_the_newest(self) -> None:
        now = NOON + timedelta(days=30)
        due = first_due(every(86400, relative=True), NOON, now, MINUTE)
        assert due == utc("2026-04-02 00:00:00")

    def test_what_is_not_due_yet_is_the_next(self) -> None:
        assert first_due(every(3600), NOON, NOON + MINUTE, MINUTE) == NOON + 60 * MINUTE

    def test_nothing_is_left_out_of_what_is_rarer(self) -> None:
        now = NOON + timedelta(seconds=70)
        assert first_due(every(65), NOON, now, MINUTE) == NOON + timedelta(seconds=65)


def test_a_schedule_that_stands_still_is_refused() -> None:
    with pytest.raises(ValueError, match="not after"):
        next_due(every(0), NOON)
