"""Filters and functions for the templates: links, times, and escaped text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import g, request, url_for
from markupsafe import Markup, escape

from celery_mysqllock.cli.overview import short_name
from celery_mysqllock.cli.tables import queues_of, since, span, time_of
from celery_mysqllock.cli.visible import visible, visible_lines
from celery_mysqllock.jobs import JobStatus

if TYPE_CHECKING:
    from datetime import datetime

    from flask import Flask

DONE = {
    "retried": "Queued again",
    "discarded": "Discarded",
    "paused": "The queue is paused",
    "resumed": "The queue is resumed",
}
_LONG = 500  # characters of a text that a list shows


def prepare(site: Flask) -> None:
    """Register them with the templates."""
    environment = site.jinja_env
    environment.trim_blocks = environment.lstrip_blocks = True
    environment.finalize = _finalize
    environment.filters.update(
        queues_of=queues_of,
        since=lambda moment: since(moment) or "-",
        span=lambda seconds: span(seconds) or "-",
        time=time_of,
        moment=_moment,
        lines=lambda text: Markup(escape(visible_lines(text))),  # noqa: S704 - is escaped
        first_line=first_line,
        short_name=short_name,
    )
    environment.globals.update(link=link, JobStatus=JobStatus)

    @site.context_processor
    def everywhere() -> dict[str, object]:
        return {"viewer": g.viewer, "notice": _notice()}


def link(endpoint: str, **values: object) -> str:
    """Return a URL relative to the current page, which works below any path of a proxy."""
    root = request.script_root
    target = url_for(endpoint, **values)  # type: ignore[arg-type] # values of any type
    path, mark, query = target[len(root) + 1 :].partition("?")
    asked = str(request.environ.get("REQUEST_URI", "")).partition("?")[0]
    if not asked.startswith("/"):
        asked = request.path
    depth = asked.removeprefix(root).count("/") - 1
    return (("../" * depth + path) or "./") + mark + query


def first_line(text: str | None) -> str:
    """Return the first line of a reason, which names the error."""
    return (text or "").strip().partition("\n")[0]


def _finalize(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, str) and not isinstance(value, Markup):
        shown = visible(value)
        return shown if len(shown) <= _LONG else f"{shown[:_LONG]}…"
    return value


def _moment(moment: datetime | None) -> str | None:
    return f"{time_of(moment)}, {since(moment)} ago" if moment else None


def _notice() -> str | None:
    done, jobs = DONE.get(request.args.get("done", "")), request.args.get("jobs", "")
    if done is None:
        return None
    return f"{done}: {jobs} of the jobs." if jobs.isdecimal() else f"{done}."
