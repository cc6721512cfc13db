"""The Flask application: the pages, the actions, and what is refused."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from flask import Flask, Response, g, redirect, render_template, request, session
from flask.sessions import SecureCookieSessionInterface
from werkzeug.exceptions import Forbidden, HTTPException, NotFound

from celery_mysqllock.cli.jobs import readable
from celery_mysqllock.cli.web.search import Search
from celery_mysqllock.cli.web.showing import link, prepare
from celery_mysqllock.exceptions import MySQLLockError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from werkzeug.wrappers import Response as AnyResponse

    from celery_mysqllock.cli.deployment import Deployment
    from celery_mysqllock.cli.overview import OverviewReader
    from celery_mysqllock.cli.web.access import Access
    from celery_mysqllock.jobs import Job

_SHOWN = 50  # jobs that a search shows at most
_LARGE = 64 * 1024  # characters of a text that are shown
_FORM_TYPE = "application/x-www-form-urlencoded"
_FORM = 64 * 1024  # bytes of a form
_FRESH = 1.0  # seconds for which an overview is served again
_AGAIN = 5  # seconds until the browser refreshes
_LIFE = timedelta(hours=12)  # of a session
_TOKEN = "X-Mysqllock-Token"  # noqa: S105 - a header's name
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Viewer(NamedTuple):
    """What the user of a page may do.

    Attributes:
        may_act: Whether the page has buttons.
        key: The key for the forms.
        may_sign_in: Whether there is a token to sign in with.
        may_read: Whether the pages can be read without signing in.
    """

    may_act: bool
    key: str
    may_sign_in: bool
    may_read: bool


class _Sessions(SecureCookieSessionInterface):
    """Flask's sessions, whose cookie is for TLS only if the page was requested over TLS."""

    def get_cookie_secure(self, app: Flask) -> bool:  # noqa: ARG002 - Flask's
        return request.is_secure


def create_site(deployment: Deployment, reader: OverviewReader, access: Access) -> Flask:
    """Return the application.

    Args:
        deployment: The job table.
        reader: Reads the overview.
        access: Decides on reading and on actions.
    """
    site = Flask(__package__ or "")
    site.session_interface = _Sessions()
    site.config.update(
        SECRET_KEY=secrets.token_bytes(32),
        SESSION_COOKIE_NAME="mysqllock",
        SESSION_COOKIE_SAMESITE="Strict",
        SESSION_REFRESH_EACH_REQUEST=False,
        PERMANENT_SESSION_LIFETIME=_LIFE,
        MAX_CONTENT_LENGTH=_FORM,
    )
    prepare(site)
    _guard(site, access)
    _refuse(site)
    _pages(site, deployment, reader)
    _signing(site, access)
    _actions(site, deployment)
    return site


def _guard(site: Flask, access: Access) -> None:
    @site.before_request
    def authorize() -> AnyResponse | None:
        # a program may send a form without its type
        request.environ["CONTENT_TYPE"] = request.environ.get("CONTENT_TYPE") or _FORM_TYPE
        given = request.headers.get(_TOKEN)
        is_known = bool(given) and access.has_actions
        if is_known:
            access.check(given or "")
        may_act = is_known or bool(access.form_key())
        may_read = access.is_local or may_act
        g.viewer = Viewer(may_act, access.form_key(), access.has_actions, may_read)
        if request.method not in ("GET", "HEAD", "OPTIONS"):
            if not access.is_own_form(request):
                raise Forbidden("The form comes from another site.")
            is_shown = is_known or access.has_key(request.form.get("key", ""))
            if request.endpoint != "sign_in" and not is_shown:
                raise Forbidden("Nothing was changed: this needs the token. Sign in and try again.")
        elif not may_read and request.endpoint not in ("sign_in", "static"):
            return redirect(link("sign_in"), 303)
        return None

    @site.after_request
    def add_headers(response: Response) -> Response:
        for name, value in _HEADERS.items():
            response.headers[name] = value
        if request.endpoint == "static":
            response.headers["Cache-Control"] = "max-age=3600"
        return response


def _refuse(site: Flask) -> None:
    @site.errorhandler(HTTPException)
    def refused(error: HTTPException) -> tuple[str, int, list[tuple[str, str]]]:
        status = error.code or 500
        title = "Not found" if status == NotFound.code else "Refused"
        text = _message(title, error.description or error.name)
        kept = [pair for pair in error.get_headers() if pair[0] in ("Retry-After", "Allow")]
        return text, status, kept

    @site.errorhandler(MySQLLockError)
    def unreadable(error: MySQLLockError) -> tuple[str, int]:
        if request.method == "POST":
            return _message("Not done", str(error)), 503
        return _message("Not to be read", str(error), refresh=_AGAIN), 503


def _message(title: str, text: str, *, refresh: int | None = None) -> str:
    # if the request is refused before it was authorized
    g.setdefault("viewer", Viewer(may_act=False, key="", may_sign_in=False, may_read=False))
    return render_template("message.html", title=title, problem=text, refresh=refresh)


def _pages(site: Flask, deployment: Deployment, reader: OverviewReader) -> None:
    @site.get("/")
    def overview() -> str:
        refreshes = request.args.get("refresh") != "off"
        found = reader.read(max_age=0.0 if "done" in request.args else _FRESH)
        return render_template(
            "overview.html", fleet=found, refresh=_AGAIN if refreshes else None, again=_AGAIN
        )

    @site.get("/jobs")
    def jobs() -> tuple[str, int]:
        search = Search.of(request.args)
        found: list[Job] = []
        problem = None
        try:
            selection = search.selection
        except SettingsError as error:
            problem = str(error)
        else:
            with deployment.inspection() as inspection:
                found = inspection.jobs(selection, _SHOWN + 1)
        page = render_template(
            "jobs.html",
            search=search,
            jobs=found[:_SHOWN],
            more=_SHOWN if len(found) > _SHOWN else None,
            problem=problem,
        )
        return page, 400 if problem else 200

    @site.get("/jobs/<job_id>")
    def job(job_id: str) -> str:
        found = _find(deployment, job_id)
        message = found.message or ""
        shown = readable(message) if len(message) <= _LARGE else message
        return render_template(
            "job.html",
            job=found,
            reason=(found.reason or "").strip()[:_LARGE],
            shown=shown[:_LARGE],
            size=len(message),
            is_cut=len(shown) > _LARGE,
        )

    @site.get("/jobs/<job_id>/message")
    def message(job_id: str) -> Response:
        found = _find(deployment, job_id)
        name = f"job-{found.id}.txt"
        response = Response((found.message or "").encode(), mimetype="text/plain")
        response.headers["Content-Disposition"] = f"attachment; filename={name}"
        return response


def _find(deployment: Deployment, job_id: str) -> Job:
    is_id = job_id.isascii() and job_id.isdecimal() and len(job_id) <= 20  # noqa: PLR2004 - a BIGINT
    if not is_id:
        raise NotFound("There is no such page.")
    with deployment.inspection() as inspection:
        found = inspection.find(job_id)
    if not found:
        raise NotFound(f"There is no job {job_id}. It may be done.")
    return found[0]


def _signing(site: Flask, access: Access) -> None:
    @site.route("/sign-in", methods=["GET", "POST"])
    def sign_in() -> AnyResponse | str | tuple[str, int]:
        if request.method != "POST":
            if not access.has_actions:
                raise NotFound("There is no such page.")
            return render_template("sign_in.html", problem=None)
        try:
            access.check(request.form.get("token", ""))
        except Forbidden as error:
            return render_template("sign_in.html", problem=error.description), 403
        access.sign_in()
        return redirect(link("overview"), 303)

    @site.post("/sign-out")
    def sign_out() -> AnyResponse:
        session.clear()
        return redirect(link("overview"), 303)


def _actions(site: Flask, deployment: Deployment) -> None:
    def on_jobs(path: str, done: str, act: Callable[[list[int]], int]) -> None:
        def answer() -> AnyResponse:
            changed = act([int(one) for one in request.form.getlist("id") if _is_number(one)])
            job_id = request.form.get("from_job", "")
            if _is_number(job_id) and done == "retried":
                return redirect(link("job", job_id=job_id, done=done, jobs=changed), 303)
            typed = Search.of(request.form).typed
            return redirect(link("jobs", **typed, done=done, jobs=changed), 303)

        site.add_url_rule(path, done, answer, methods=["POST"])

    def retry(ids: list[int]) -> int:
        with deployment.control() as control:
            return control.retry(ids)

    def discard(ids: list[int]) -> int:
        with deployment.control() as control:
            return control.discard(ids)

    on_jobs("/jobs/retry", "retried", retry)
    on_jobs("/jobs/discard", "discarded", discard)

    @site.post("/queues/pause")
    def pause() -> AnyResponse:
        with deployment.control() as control:
            control.pause(request.form.get("queue", ""))
        return redirect(link("overview", done="paused"), 303)

    @site.post("/queues/resume")
    def resume() -> AnyResponse:
        with deployment.control() as control:
            control.resume(request.form.get("queue", ""))
        return redirect(link("overview", done="resumed"), 303)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 20  # noqa: PLR2004 - a BIGINT
