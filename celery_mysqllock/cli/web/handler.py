"""Which page answers which request, and what is refused."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, ClassVar, NamedTuple
from urllib.parse import parse_qs, urlsplit

from celery_mysqllock.cli.serving import Handler
from celery_mysqllock.cli.web.jobs_pages import SHOWN, Search, job_page, jobs_page
from celery_mysqllock.cli.web.overview_page import overview_page
from celery_mysqllock.cli.web.page import STYLE, Reader, message_page, notice, sign_in_page
from celery_mysqllock.exceptions import MySQLLockError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celery_mysqllock.cli.overview import Watch
    from celery_mysqllock.cli.place import Place
    from celery_mysqllock.cli.web.access import Access
    from celery_mysqllock.cli.web.markup import Markup
    from celery_mysqllock.jobs import Control

_HTML = "text/html; charset=utf-8"
_MOST = 64 * 1024  # bytes of a form
_FRESH = 1.0  # an overview of so many seconds ago is given to the next reader
_AGAIN = 5  # seconds until a page that could not be read is asked for again
_NOT_FOUND = 404
_BRAKE = 1.0  # seconds that a wrong token costs
_DONE = {
    "retried": "Queued again",
    "discarded": "Discarded",
    "paused": "The queue is paused",
    "resumed": "The queue is resumed",
}


class Site(NamedTuple):
    """What the pages are made of.

    Attributes:
        place: The job table.
        watch: Reads the overview.
        access: Decides who may see it and act.
    """

    place: Place
    watch: Watch
    access: Access


class WebHandler(Handler):
    """Answers one request of a browser; a subclass has the site."""

    site: ClassVar[Site]
    fixed_headers: ClassVar[Mapping[str, str]] = {
        **Handler.fixed_headers,
        "Content-Security-Policy": (
            "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; "
            "base-uri 'none'; frame-ancestors 'none'"
        ),
        "Referrer-Policy": "same-origin",
        "X-Frame-Options": "DENY",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }

    # -- reading ----------------------------------------------------------------------------------

    def do_GET(self) -> None:  # noqa: N802 - http.server's name
        """Answer with a page."""
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if not self._is_for_us():
            return
        if url.path == "/style.css":
            self.answer(200, STYLE, "text/css; charset=utf-8", {"Cache-Control": "max-age=3600"})
        elif url.path == "/sign-in" and self.site.access.has_actions:
            self._page(200, sign_in_page(self._reader()))
        elif not self.site.access.may_read(self.headers):
            self._go("/sign-in")
        else:
            self._show(url.path, query)

    do_HEAD = do_GET  # noqa: N815 - http.server's name

    def _show(self, path: str, query: Mapping[str, str]) -> None:
        reader, said = self._reader(), _said(query)
        job = re.fullmatch(r"/jobs/([0-9]{1,20})", path)
        try:
            if path == "/":
                refreshes = query.get("refresh") != "off"
                overview = self.site.watch.read(max_age=0.0 if said else _FRESH)
                self._page(200, overview_page(overview, reader, said, refreshes=refreshes))
            elif path == "/jobs":
                self._search(Search.of(query), reader, said)
            elif job is not None:
                self._job(job[1], reader, said)
            else:
                self._refuse(_NOT_FOUND, "There is no such page.")
        except MySQLLockError as error:
            self._page(503, message_page("Not to be read", str(error), reader, refresh=_AGAIN))

    def _search(self, search: Search, reader: Reader, said: Markup | None) -> None:
        try:
            selection = search.selection
        except SettingsError as error:
            wrong = notice(str(error), is_problem=True)
            self._page(400, jobs_page(search, [], reader, wrong))
            return
        with self.site.place.inspection() as inspection:
            found = inspection.jobs(selection, SHOWN + 1)
        self._page(200, jobs_page(search, found, reader, said))

    def _job(self, job_id: str, reader: Reader, said: Markup | None) -> None:
        with self.site.place.inspection() as inspection:
            found = inspection.find(job_id)
        if found:
            self._page(200, job_page(found[0], reader, said))
        else:
            self._refuse(_NOT_FOUND, f"There is no job {job_id}. It may be done.")

    # -- acting -----------------------------------------------------------------------------------

    def do_POST(self) -> None:  # noqa: N802 - http.server's name
        """Do what a form asks for, then lead to a page."""
        form = self._form()
        if form is None or not self._is_for_us():
            return
        path, access = urlsplit(self.path).path, self.site.access
        if not access.is_own_form(self.headers):
            self._refuse(403, "The form comes from another site.")
        elif path == "/sign-in":
            self._sign_in(_first(form, "token"))
        elif not access.may_act(self.headers, _first(form, "key")):
            self._refuse(403, "Nothing was changed: this needs the token. Sign in and try again.")
        elif path == "/sign-out":
            self._go("/", {"Set-Cookie": access.no_cookie()})
        else:
            self._act(path, form)

    def _act(self, path: str, form: Mapping[str, list[str]]) -> None:
        try:
            with self.site.place.control() as control:
                target = _done(control, path, form)
        except MySQLLockError as error:
            self._page(503, message_page("Not done", str(error), self._reader()))
            return
        if target is None:
            self._refuse(_NOT_FOUND, "There is no such action.")
        else:
            self._go(target)

    def _sign_in(self, token: str) -> None:
        if self.site.access.knows(token):
            self._go("/", {"Set-Cookie": self.site.access.cookie()})
            return
        time.sleep(_BRAKE)
        self._page(403, sign_in_page(self._reader(), is_wrong=True))

    def _form(self) -> Mapping[str, list[str]] | None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > _MOST:
            self.close_connection = True
            self._refuse(413, "The form is too large, or its length is not known.")
            return None
        text = self.rfile.read(int(length)).decode(errors="replace")
        return parse_qs(text, keep_blank_values=True)

    # -- answers ----------------------------------------------------------------------------------

    def _reader(self) -> Reader:
        access, headers = self.site.access, self.headers
        key = access.form_key(headers) if access.is_signed_in(headers) else None
        return Reader(key, access.has_actions, access.may_read(headers))

    def _is_for_us(self) -> bool:
        if self.site.access.is_for_us(self.headers):
            return True
        self._refuse(421, "This page is not served under that name; see --allow-host.")
        return False

    def _page(self, status: int, text: str) -> None:
        self.answer(status, text, _HTML)

    def _refuse(self, status: int, why: str) -> None:
        self._page(
            status,
            message_page("Refused" if status != _NOT_FOUND else "Not found", why, self._reader()),
        )

    def _go(self, target: str, headers: Mapping[str, str] | None = None) -> None:
        self.answer(303, "", _HTML, {"Location": target, **(headers or {})})


def _done(control: Control, path: str, form: Mapping[str, list[str]]) -> str | None:
    """Do what the path says; return where to go then, None when it says nothing."""
    ids = [int(one) for one in form.get("id", []) if one.isdecimal()]
    queue = _first(form, "queue")
    if path == "/jobs/retry":
        return _after(form, "retried", control.retry(ids))
    if path == "/jobs/discard":
        return _after(form, "discarded", control.discard(ids))
    if path == "/queues/pause":
        control.pause(queue)
        return "/?done=paused"
    if path == "/queues/resume":
        control.resume(queue)
        return "/?done=resumed"
    return None


def _after(form: Mapping[str, list[str]], what: str, number: int) -> str:
    search = Search.of({name: values[0] for name, values in form.items()})
    job = _first(form, "from_job")
    path = f"/jobs/{job}" if job.isdecimal() and what == "retried" else search.path
    return f"{path}{'&' if '?' in path else '?'}done={what}&jobs={number}"


def _first(form: Mapping[str, list[str]], name: str) -> str:
    return form.get(name, [""])[0]


def _said(query: Mapping[str, str]) -> Markup | None:
    done, jobs = _DONE.get(query.get("done", "")), query.get("jobs", "")
    if done is None:
        return None
    return notice(f"{done}: {jobs} of the jobs." if jobs.isdecimal() else f"{done}.")
