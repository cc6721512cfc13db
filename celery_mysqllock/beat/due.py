"""When a periodic task is due: from its last tick alone, so that every beat gets the same times."""

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
    """The first tick of the schedule after the last one; the moment of asking does not matter.

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

    What is due in each hour goes on in the hour that the clocks show twice in autumn; a time of the
    day in that hour is due the first time only.
    """
    if len(kind.hour) == _HOURS:
        # by clocks that are not changed, for as long as the minutes are the same
        due = _by_clock(kind, last, timezone(last.utcoffset() or timedelta()))
        if due.astimezone(kind.tz).minute in kind.minute:
            return due
    due = _by_clock(kind, last, kind.tz)
    for _ in range(_MINUTES):
        if due > last:
            break
        # it was due the first time that the clocks showed this
        due = _by_clock(kind, due.astimezone(kind.tz), kind.tz)
    return due


def _by_clock(kind: Any, last: datetime, zone: tzinfo) -> datetime:  # noqa: ANN401 - a crontab
    """The next tick after a time on that clock; it may be in the past of the time, in autumn."""
    with _at(kind, last):
        # Not remaining_estimate: before Celery 5.7 it is off by an hour when the clocks change.
        start, delta, _ = kind.remaining_delta(last, tz=zone)
    due: datetime = (start + delta).astimezone(UTC)
    return due


@contextmanager
def _at(kind: Any, moment: datetime) -> Iterator[None]:  # noqa: ANN401 - Celery's
    """Let it be that moment for the schedule."""
    clock, kind.nowfun = kind.nowfun, lambda: moment
    try:
        yield
    finally:
        kind.nowfun = clock


def first_due(kind: BaseSchedule, last: datetime, now: datetime, catch_up: timedelta) -> datetime:
    """The first tick after the last one that is still worth sending.

    Ticks that should have been sent longer than ``catch_up`` ago are left out, except for the
    newest when there is no younger one: after an outage each task is sent at least once.
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
    """A time to count from, so that there are few steps to the tick that is looked for."""
    if isinstance(kind, schedule):
        # Its ticks are as many intervals away from the last one.
        steps = max(0, (oldest - last) // kind.run_every - 1)
        base: datetime = last + steps * kind.run_every
        return base
    # The ticks of any other do not depend on the last one: back in growing steps to one.
    back = now - oldest + timedelta(seconds=1)
    while now - back > last and next_due(kind, now - back) > now:
        back *= 2
    return max(last, now - back)
