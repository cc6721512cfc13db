"""A job that any program wrote as JSON, ``{"task": ...}``: its fields and what they mean."""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from celery.utils.saferepr import saferepr

from celery_mysqllock.broker.envelope import TASK_NAME_LIMIT, is_text, shown
from celery_mysqllock.exceptions import InvalidJob
from celery_mysqllock.jobs import Destination
from celery_mysqllock.jobs.job import HIGHEST_PRIORITY, LOWEST_PRIORITY, QUEUE_NAME_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_mysqllock.jobs import ClaimedJob

_ISO_8601 = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)"
    r"(?:[T ](?P<time>\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?))?"
    r" ?(?P<zone>Z|[+-]\d\d(?::?\d\d)?)?"
)
#: The latest time that a job can wait for: what a server can store, with room for its clock.
LAST_MOMENT = datetime(9999, 12, 1, tzinfo=UTC)
# Characters of the arguments that Celery shows, as for tasks that it sends itself.
_SHOWN_ARGUMENTS = 1024
_TIME = "a time as in '2030-01-31T18:00:00+01:00' (UTC without a zone)"
# A row has the same task id in each delivery. Time and database are part of it, so that a new
# table, or one of another database, gives other ids.
_ROW_IDS = uuid.UUID("6b0f6e0c-5a3e-5d0e-9d5b-3c1f0c6f4a2e")


@dataclass(frozen=True)
class Row:
    """The fields; those that may be left out may also be null.

    Attributes:
        task: The task's name.
        args: Its arguments.
        kwargs: Its arguments by name.
        id: The task's id, None for the row's own.
        eta: Not before then.
        expires: Not after then.
        priority: 0 to 9, the greater first.
        queue: Where it belongs, None for where it is.
    """

    task: str
    args: list[Any] = field(default_factory=list)
    kwargs: dict[str, Any] = field(default_factory=dict)
    id: str | None = None
    eta: datetime | None = None
    expires: datetime | None = None
    priority: int | None = None
    queue: str | None = None

    @classmethod
    def read(cls, content: dict[str, Any], created_at: datetime) -> Row:
        """Check the fields.

        Args:
            content: The JSON object.
            created_at: When the row was stored, in UTC; seconds of ``expires`` count from then.

        Raises:
            InvalidJob: A field is unknown, or of a wrong type.
        """
        if unknown := content.keys() - _FIELDS.keys():
            raise InvalidJob(
                f"The message has the unknown field {min(unknown)!r}; known are "
                f"{', '.join(_FIELDS)}."
            )
        found = {}
        for name, value in content.items():
            accepts, allowed = _FIELDS[name]
            if value is None and name in _OPTIONAL:
                continue
            if not accepts(value):
                raise InvalidJob(f"{name!r} is {shown(value)}; it must be {allowed}.")
            found[name] = value
        if "eta" in found:
            found["eta"] = _time("eta", found["eta"])
        if "expires" in found:
            found["expires"] = _expiry(found["expires"], created_at)
        return cls(**found)

    def destination(self, job: ClaimedJob) -> Destination | None:
        """Where the row belongs, None when it may run here and now.

        What has expired goes nowhere: Celery revokes it.
        """
        now = datetime.now(UTC)
        if job.has_expired or (self.expires is not None and self.expires <= now):
            return None
        eta = None if self.eta is None else min(self.eta, LAST_MOMENT)
        delay = None if eta is None or eta <= now else (eta - now).total_seconds()
        # to a server, blanks at the end of a name are none
        is_here = self.queue is None or self.queue.rstrip(" ") == job.queue.rstrip(" ")
        if delay is None and is_here:
            return None
        return Destination(job.queue if is_here else self.queue or "", self.priority, delay)

    def payload(self, job: ClaimedJob, source: str) -> dict[str, Any]:
        """The row as a message of Celery's protocol 2.

        Args:
            job: The claimed job.
            source: ``<database>.<table>``.
        """
        task_id = self.id or job.task_id or row_id(job.id, job.created_at, source)
        embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
        priority = LOWEST_PRIORITY if self.priority is None else self.priority
        return {
            "body": json.dumps([self.args, self.kwargs, embed]),
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": {
                "lang": "py",
                "task": self.task,
                "id": task_id,
                "root_id": task_id,
                "parent_id": None,
                "group": None,
                "argsrepr": saferepr(self.args, _SHOWN_ARGUMENTS),
                "kwargsrepr": saferepr(self.kwargs, _SHOWN_ARGUMENTS),
                "origin": f"{source}@sql",
                "retries": 0,
                "timelimit": [None, None],
                # the table has waited for it; the worker need not
                "eta": None,
                "expires": None if self.expires is None else self.expires.isoformat(),
                "ignore_result": False,
            },
            "properties": {"correlation_id": task_id, "delivery_mode": 2, "priority": priority},
        }


def row_id(job_id: int, created_at: datetime, source: str) -> str:
    """The task id of a row that carries none.

    Args:
        job_id: The row's id.
        created_at: When it was stored, in UTC.
        source: ``<database>.<table>``.
    """
    return str(uuid.uuid5(_ROW_IDS, f"{source}:{job_id}:{created_at.isoformat()}"))


def _time(name: str, value: str) -> datetime:
    found = _ISO_8601.fullmatch(value.strip())
    try:
        if found is not None:
            spelled = f"{found['day']}T{found['time'] or '00:00'}{found['zone'] or 'Z'}"
            return datetime.fromisoformat(spelled).astimezone(UTC)
    except (ValueError, OverflowError):
        # there is no such day, or none in UTC
        pass
    raise InvalidJob(f"{name!r} is {shown(value)}; it must be {_TIME}.")


def _expiry(value: str | float, created_at: datetime) -> datetime:
    if isinstance(value, str):
        return _time("expires", value)
    try:
        return created_at.replace(tzinfo=UTC) + timedelta(seconds=value)
    except (ValueError, OverflowError) as error:
        allowed = _FIELDS["expires"][1]
        raise InvalidJob(f"'expires' is {shown(value)}; it must be {allowed}.") from error


def _is_priority(value: object) -> bool:
    return type(value) is int and LOWEST_PRIORITY <= value <= HIGHEST_PRIORITY


_OPTIONAL = ("id", "eta", "expires", "priority", "queue")
_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "task": (is_text(TASK_NAME_LIMIT), f"a string of 1 to {TASK_NAME_LIMIT} characters"),
    "args": (lambda value: isinstance(value, list), "a JSON array"),
    "kwargs": (lambda value: isinstance(value, dict), "a JSON object"),
    "id": (is_text(255), "a string of 1 to 255 characters"),
    "eta": (lambda value: isinstance(value, str), _TIME),
    "expires": (
        lambda value: isinstance(value, str) or type(value) in (int, float),
        f"{_TIME}, or a number of seconds",
    ),
    "priority": (_is_priority, f"a whole number from {LOWEST_PRIORITY} to {HIGHEST_PRIORITY}"),
    "queue": (is_text(QUEUE_NAME_LIMIT), f"a string of 1 to {QUEUE_NAME_LIMIT} characters"),
}
