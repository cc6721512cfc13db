"""When a periodic task is due, from its last tick alone, so that every beat gets the same times."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING, Any

from celery.schedules import crontab, schedule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery.schedules import BaseSchedule

_HOURS, _MINUTES = 24, 60


def next_due(kind: BaseSchedule, last: datetime) -> datetime:
    """The first tick of the schedule after the last one, whatever the time is now.

    Args:
        kind: Celery's schedule.
        last: The tick before, or the time from which the first is counted; with a time zone.

    Raises:
        ValueError: The schedule does not go forward.
    """
    there: datetime = last.astimezone(kind.tz)
    if isinstance(kind, crontab):
        due = _next_of_crontab(kind, there)
    else:
        with _at(kind, there):
            due = last + kind.remaining_estimate(there)
    if due <= last:
        raise ValueError(f"{kind!r} is due at {due}, which is not after {last}.")
    return due


def _next_of_crontab(kind: crontab, last: datetime) -> datetime:
    """The next tick by the clocks of the crontab's zone.

    In the hour that the clocks show twice in autumn, a crontab of every hour is due both times; a
    time of day is due only the first time.
    """
    if len(kind.hour) == _HOURS:
        # by a clock of fixed offset, as long as it shows the same minutes
        due = _by_clock(kind, last, timezone(last.utcoffset() or timedelta()))
        if due.astimezone(kind.tz).minute in kind.minute:
            return due
    due = _by_clock(kind, last, kind.tz)
    for _ in range(_MINUTES):
        if due > last:
            break
        # it was due when the clocks showed this the first time
        due = _by_clock(kind, due.astimezone(kind.tz), kind.tz)
    return due


def _by_clock(kind: Any, last: datetime, zone: tzinfo) -> datetime:  # noqa: ANN401 - a crontab
    """The next tick after a time on that clock; in autumn it may be before that time."""
    with _at(kind, last):
        # Not remaining_estimate: before Celery 5.7 it is off by an hour when the clocks change.
        start, delta, _ = kind.remaining_delta(last, tz=zone)
    due: datetime = (start + delta).astimezone(UTC)
    return due


@contextmanager
def _at(kind: Any, moment: datetime) -> Iterator[None]:  # noqa: ANN401 - Celery's
    """Make the schedule take that moment for the present."""
    clock, kind.nowfun = kind.nowfun, lambda: moment
    try:
        yield
    finally:
        kind.nowfun = clock


def first_due(kind: BaseSchedule, last: datetime, now: datetime, catch_up: timedelta) -> datetime:
    """The first tick after the last one that is still worth sending.

    Ticks older than ``catch_up`` are skipped, except for the newest if there is no younger one:
    after an outage each task is sent at least once.
    """
    due, oldest = next_due(kind, last), now - catch_up
    if due >= oldest:
        return due
    due = next_due(kind, _shortly_before(kind, last, now, oldest))
    while due < oldest and (later := next_due(kind, due)) <= now:
        due = later
    return due


def _shortly_before(
    kind: Any,  # noqa: ANN401 - Celery's
    last: datetime,
    now: datetime,
    oldest: datetime,
) -> datetime:
    """A time to count from that is few steps before the wanted tick."""
    if isinstance(kind, schedule):
        # Its ticks are whole intervals after the last one.
        steps = max(0, (oldest - last) // kind.run_every - 1)
        base: datetime = last + steps * kind.run_every
        return base
    # The ticks of other schedules do not depend on the last one: go back in growing steps.
    back = now - oldest + timedelta(seconds=1)
    while now - back > last and next_due(kind, now - back) > now:
        back *= 2
    return max(last, now - back)
