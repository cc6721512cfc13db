"""Periodic tasks, from Celery's entries to rows of the table and back."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from celery.beat import ScheduleEntry
from celery.schedules import crontab, schedule
from kombu.utils.json import dumps, loads

from celery_mysqllock.beat.due import next_due
from celery_mysqllock.exceptions import SettingsError
from celery_mysqllock.jobs import PeriodicTask
from celery_mysqllock.jobs.schedule import aware

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celery import Celery
    from celery.schedules import BaseSchedule

_LONGEST_NAME, _HASH = 255, 16
# Seconds. More than a hundred years are a typing error.
_SHORTEST, _LONGEST = 0.001, 3.2e9
_CRONTAB_FIELDS = 5
_ANY_TIME = datetime(2000, 1, 1, tzinfo=UTC)
# The default repr() of an object has its address, which differs between processes.
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_JSON: dict[str, tuple[type, str]] = {
    "args": (list, "array"),
    "kwargs": (dict, "object"),
    "options": (dict, "object"),
}
_SCHEDULE = (
    "a number of seconds above 0, or the five fields 'minute hour day_of_month month_of_year "
    "day_of_week'"
)


def written(entry: ScheduleEntry) -> PeriodicTask:
    """An entry of the configuration as a row.

    What JSON cannot express, such as a solar schedule or a callable argument, becomes a text for
    people to read.
    """
    return PeriodicTask(
        name=_short(str(entry.name)),
        task=entry.task,
        schedule=_short(_schedule_text(entry.schedule)),
        args=_write(list(entry.args)) if entry.args else None,
        kwargs=_write(entry.kwargs) if entry.kwargs else None,
        options=_write(entry.options) if entry.options else None,
        from_config=True,
    )


def _write(value: object) -> str:
    try:
        return str(dumps(value, ensure_ascii=False))
    except (TypeError, ValueError):
        return json.dumps(value, default=lambda it: _ADDRESS.sub("", repr(it)), skipkeys=True)


def _short(text: str) -> str:
    if len(text) <= _LONGEST_NAME:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:_HASH]
    return f"{text[: _LONGEST_NAME - _HASH - 1]}~{digest}"


def _schedule_text(kind: Any) -> str:  # noqa: ANN401 - Celery's
    if type(kind) is schedule and not kind.relative:
        return f"{kind.run_every.total_seconds():.6f}".rstrip("0").rstrip(".")
    if type(kind) is crontab:
        fields = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
        return " ".join(_field(getattr(kind, f"_orig_{name}")) for name in fields)
    return _ADDRESS.sub(
        "", f"{kind!r} relative" if getattr(kind, "relative", False) else repr(kind)
    )


def _field(value: Any) -> str:  # noqa: ANN401 - a number, a text or several of them
    if isinstance(value, (int, str)):
        return str(value).replace(" ", "")
    return ",".join(map(str, sorted(value, key=str)))


def counts_for(row: PeriodicTask) -> str:
    """The row's schedule and time zone; if they change, ticks are counted anew."""
    return f"{row.schedule} {row.timezone}" if row.timezone else row.schedule


def read(row: PeriodicTask, configured: ScheduleEntry | None, app: Celery) -> ScheduleEntry:
    """A row as Celery's entry.

    Args:
        row: The row.
        configured: The configuration's entry of that name, None if there is none. Where the row is
            unchanged, the entry's own values are used, since JSON may not have expressed them.
        app: The application.

    Raises:
        SettingsError: The row cannot be sent; the message says why.
    """
    same: Mapping[str, Any] = written(configured)._asdict() if configured is not None else {}
    values = {
        name: getattr(configured, name)
        if configured is not None and same[name] == getattr(row, name)
        else _read_json(row, name)
        for name in _JSON
    }
    if configured is not None and (same["schedule"], None) == (row.schedule, row.timezone):
        kind = configured.schedule
    else:
        kind = _read_schedule(row, app)
    return ScheduleEntry(
        name=row.name,
        task=row.task,
        schedule=kind,
        last_run_at=aware(row.last_run_at) if row.last_run_at else None,
        total_run_count=row.total_run_count,
        app=app,
        **values,
    )


def _read_json(row: PeriodicTask, name: str) -> Any:  # noqa: ANN401 - of the kind in _JSON
    kind, spelled = _JSON[name]
    text = getattr(row, name)
    if text is None or not text.strip():
        return kind()
    try:
        value = loads(text)
    except ValueError as error:
        raise SettingsError(f"{name} is no JSON: {error}.") from None
    if not isinstance(value, kind):
        raise SettingsError(f"{name} is {text[:80]}; it must be a JSON {spelled}.")
    return value


def _read_schedule(row: PeriodicTask, app: Celery) -> BaseSchedule:
    fields = row.schedule.split()
    if len(fields) == 1:
        return schedule(_seconds(row.schedule), app=app)
    if len(fields) != _CRONTAB_FIELDS:
        raise SettingsError(f"schedule is {row.schedule!r}; it takes {_SCHEDULE}.")
    minute, hour, day_of_month, month_of_year, day_of_week = fields
    try:
        kind = crontab(minute, hour, day_of_week, day_of_month, month_of_year, app=app)
        next_due(kind, _ANY_TIME)  # raises if it is never due
    # Celery's parser raises errors of many kinds
    except Exception as error:
        raise SettingsError(
            f"schedule is {row.schedule!r}; it takes {_SCHEDULE} ({error})."
        ) from error
    if row.timezone is not None:
        kind.tz = _zone(row.timezone)
    return kind


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not _SHORTEST <= seconds <= _LONGEST:
        raise SettingsError(f"schedule is {text!r}; it takes {_SCHEDULE}.")
    return seconds


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise SettingsError(
            f"timezone is {name!r}; it takes a name such as 'Europe/Berlin' ({error})."
        ) from None
