"""The search form for jobs, as the user typed it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from celery_mysqllock.exceptions import SettingsError
from celery_mysqllock.jobs import JobStatus, Selection
from celery_mysqllock.settings import duration

if TYPE_CHECKING:
    from collections.abc import Mapping

_FIELDS = ("queue", "status", "task", "older_than")


@dataclass(frozen=True)
class Search:
    """The fields of the form; an empty one matches all jobs.

    Attributes:
        queue: A queue's name.
        status: A job's status.
        task: A task's full name.
        older_than: A duration, such as ``1h``.
    """

    queue: str = ""
    status: str = ""
    task: str = ""
    older_than: str = ""

    @classmethod
    def of(cls, fields: Mapping[str, str]) -> Search:
        """Read the fields of a query string or form."""
        return cls(**{name: fields.get(name, "").strip() for name in _FIELDS})

    @property
    def typed(self) -> dict[str, str]:
        """The fields that are not empty."""
        return {name: value for name, value in vars(self).items() if value}

    @property
    def selection(self) -> Selection:
        """The matching jobs.

        Raises:
            SettingsError: A field is malformed.
        """
        typed = self.older_than
        seconds = duration(float(typed) if typed.isdecimal() else typed) if typed else None
        if typed and seconds is None:
            raise SettingsError(f"{typed!r} is no duration, such as 90s, 15m, 1h or 7d.")
        try:
            status = JobStatus(self.status) if self.status else None
        except ValueError:
            raise SettingsError(f"{self.status!r} is no status of a job.") from None
        return Selection(self.queue or None, status, self.task or None, seconds)
