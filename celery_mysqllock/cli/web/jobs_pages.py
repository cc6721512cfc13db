"""The pages of jobs: the search, and one job with its message and reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from celery_mysqllock.cli.jobs import readable
from celery_mysqllock.cli.tables import since, time_of
from celery_mysqllock.cli.web.markup import Markup, table, tag, together
from celery_mysqllock.cli.web.overview_page import first_line
from celery_mysqllock.cli.web.page import Reader, facts, page
from celery_mysqllock.exceptions import SettingsError
from celery_mysqllock.jobs import JobStatus, Selection
from celery_mysqllock.settings import duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from celery_mysqllock.jobs import Job

#: Most jobs that a search shows.
SHOWN = 50
_FIELDS = ("queue", "status", "task", "older_than")


@dataclass(frozen=True)
class Search:
    """What somebody looks for, as it was typed; empty for any.

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
        """What a query or a form says."""
        return cls(**{name: fields.get(name, "").strip() for name in _FIELDS})

    @property
    def selection(self) -> Selection:
        """Which jobs that are.

        Raises:
            SettingsError: A field cannot be read.
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

    @property
    def path(self) -> str:
        """Where it is found."""
        typed = {name: value for name, value in vars(self).items() if value}
        return f"/jobs?{urlencode(typed)}" if typed else "/jobs"


def jobs_page(
    search: Search, found: Sequence[Job], reader: Reader, notice: Markup | None = None
) -> str:
    """What was found; one job more than ``SHOWN`` means that there are more."""
    shown = found[:SHOWN]
    more = len(found) > SHOWN and tag("p", f"There are more than these {SHOWN}.", class_="faint")
    content = _list(search, shown, reader)
    return page(
        "Jobs", _form(search), content, more or None, reader=reader, path="/jobs", notice=notice
    )


def _form(search: Search) -> Markup:
    options = [
        tag("option", name or "any", value=name, selected=name == search.status)
        for name in ("", *(status.value for status in JobStatus))
    ]
    fields = [
        tag("label", "Queue", tag("input", name="queue", value=search.queue)),
        tag("label", "Status", tag("select", options, name="status")),
        tag("label", "Task, by its full name", tag("input", name="task", value=search.task)),
        tag(
            "label",
            "Older than",
            tag("input", name="older_than", value=search.older_than, placeholder="1h", size=6),
        ),
        tag("button", "Search", type="submit"),
    ]
    return tag("section", tag("form", fields, action="/jobs", class_="search", role="search"))


def _list(search: Search, found: Sequence[Job], reader: Reader) -> Markup:
    may_act = reader.form_key is not None
    rows = [
        [
            tag("a", job.id, href=f"/jobs/{job.id}"),
            *(job.task or tag("span", "text", class_="faint"), job.queue, job.status.value),
            *(since(job.created_at) or "-", first_line(job.reason)),
            *([_box(job)] if may_act else []),
        ]
        for job in found
    ]
    columns = [">id", "task", "queue", "status", ">age", "reason", *(["chosen"] if may_act else [])]
    listed = table("Found", columns, rows)
    if not may_act or not rows:
        return listed
    fields = reader.hidden(**{name: value or None for name, value in vars(search).items()})
    buttons = tag("div", _retry(), _discard("those chosen"), class_="actions")
    return tag("form", fields, listed, buttons, method="post")


def _box(job: Job) -> Markup:
    return tag("input", type="checkbox", name="id", value=job.id, aria_label=f"Job {job.id}")


def _retry() -> Markup:
    return tag("button", "Retry", type="submit", formaction="/jobs/retry")


def _discard(what: str) -> Markup:
    """A button that is behind a word, so that one click alone deletes nothing."""
    button = tag(
        "button", f"Delete {what}", type="submit", formaction="/jobs/discard", class_="danger"
    )
    return tag("details", tag("summary", "Discard"), button)


def job_page(job: Job, reader: Reader, notice: Markup | None = None) -> str:
    """One job."""
    pairs = {
        "task": job.task,
        "task id": job.task_id,
        "queue": job.queue,
        "status": job.status.value,
        "priority": job.priority,
        "deliveries": job.deliveries,
        "consumer": job.consumer,
        "created": _moment(job.created_at),
        "ready": _moment(job.ready_at),
        "due": time_of(job.due_at),
        "expires": time_of(job.expires_at),
        "claimed": _moment(job.claimed_at),
        "finished": _moment(job.finished_at),
    }
    return page(
        f"Job {job.id}",
        tag("section", facts(pairs), _actions(job, reader)),
        job.reason and tag("section", tag("h2", "Why it is dead"), _block(job.reason.strip())),
        tag("section", tag("h2", "Message"), _block(readable(job.message or ""))),
        reader=reader,
        notice=notice,
    )


def _actions(job: Job, reader: Reader) -> Markup | None:
    if reader.form_key is None or job.status is JobStatus.RUNNING:
        return None
    retry = _retry() if job.status is JobStatus.DEAD else None
    fields = together(reader.hidden(id=job.id, from_job=job.id), retry, _discard("this job"))
    return tag("form", fields, method="post", class_="actions")


def _moment(moment: object) -> str | None:
    return f"{time_of(moment)}, {since(moment)} ago" if moment else None  # type: ignore[arg-type] # a datetime


def _block(text: str) -> Markup:
    return tag("pre", text, tabindex="0")
