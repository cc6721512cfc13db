"""``mysqllock web`` over real HTTP: what is shown, and what is refused."""

from __future__ import annotations

import re
from http.client import HTTPConnection, HTTPResponse
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from celery_mysqllock import MySQLLock
from celery_mysqllock.jobs import Inspection
from tests.cli.fleet import NAME, fleet
from tests.cli.serving import Site, serving
from tests.waiting import eventually

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator, Mapping

    from celery_mysqllock.devserver import DevServer
    from celery_mysqllock.mysql import Session

    Command = Callable[..., subprocess.CompletedProcess[str]]

TOKEN = "a token of a test"  # noqa: S105 - it opens nothing else


class Browser:
    """Somebody who looks at the site.

    Args:
        site: Where.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._cookie = ""

    def ask(
        self, method: str, path: str, body: str = "", headers: Mapping[str, str] | None = None
    ) -> tuple[HTTPResponse, str]:
        connection = HTTPConnection("127.0.0.1", self._site.port, timeout=30)
        sent = {"Cookie": self._cookie, **(headers or {})}
        connection.request(method, path, body or None, sent)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer, text

    def get(self, path: str, status: int = 200, **headers: str) -> str:
        answer, text = self.ask("GET", path, headers=headers)
        assert answer.status == status, text
        return text

    def post(
        self, path: str, headers: Mapping[str, str] | None = None, **fields: object
    ) -> tuple[int, str]:
        """Status, and where it leads."""
        form = urlencode(fields, doseq=True)
        answer, _ = self.ask("POST", path, form, headers)
        cookie = answer.headers.get("Set-Cookie", "")
        if cookie:
            assert {"HttpOnly", "SameSite=Strict"} <= set(cookie.split("; "))
            self._cookie = cookie.partition(";")[0]
        return answer.status, answer.headers.get("Location", "")

    def sign_in(self) -> str:
        """Sign in; return the key that forms have from then on."""
        assert self.post("/sign-in", token=TOKEN) == (303, "/")
        found = re.search(r'name="key" value="([0-9a-f]{64})"', self.get("/"))
        assert found is not None
        return found[1]


@pytest.fixture
def jobs_of(session: Session) -> Iterator[dict[str, int]]:
    """The ids of the jobs of a fleet."""
    with fleet(session) as ids:
        yield ids


@pytest.fixture
def browser(session: Session, jobs_of: dict[str, int]) -> Iterator[Browser]:
    """Somebody who looks at the fleet, without a token."""
    with serving(session.address.url(), "web") as site:
        yield Browser(site)


@pytest.fixture
def actor(session: Session, jobs_of: dict[str, int]) -> Iterator[Browser]:
    """Somebody who looks at a site with actions, and has not signed in."""
    with serving(session.address.url(), "web", MYSQLLOCK_WEB_TOKEN=TOKEN) as site:
        yield Browser(site)


def statuses(session: Session) -> dict[int, str]:
    return {job.id: job.status.value for job in Inspection(session).jobs()}


# -- what is shown ---------------------------------------------------------------------------------


def test_the_overview_shows_all(browser: Browser, session: Session) -> None:
    with MySQLLock("nightly", url=session.address.url()):
        text = eventually(lambda: page if "nightly" in (page := browser.get("/")) else None)
    assert text is not None
    for shown in ("emails", "paused", NAME, "alive", "shop.pay", "history list"):
        assert shown in text
    assert '<a href="/jobs?queue=emails&amp;status=dead" class="bad">1</a>' in text
    assert 'http-equiv="refresh"' in text
    assert 'http-equiv="refresh"' not in browser.get("/?refresh=off")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ("dead", "running", "ready", "other", "scheduled")),
        ("?status=dead", ("dead",)),
        ("?queue=emails&status=ready", ("ready", "other")),
        ("?queue=elsewhere", ()),
        ("?task=shop.pay&status=scheduled", ("scheduled",)),
        ("?task=shop", ()),
        ("?older_than=1h", ()),
    ],
)
def test_jobs_are_found(
    browser: Browser, jobs_of: dict[str, int], query: str, found: tuple[str, ...]
) -> None:
    text = browser.get(f"/jobs{query}")
    assert set(re.findall(r'href="/jobs/(\d+)"', text)) == {str(jobs_of[name]) for name in found}


@pytest.mark.parametrize("query", ["status=asleep", "older_than=long"])
def test_a_search_that_makes_no_sense_is_said_so(browser: Browser, query: str) -> None:
    text = browser.get(f"/jobs?{query}", 400)
    assert 'role="alert"' in text


def test_a_job_is_shown_with_reason_and_message_and_nothing_of_it_is_html(
    browser: Browser, jobs_of: dict[str, int]
) -> None:
    text = browser.get(f"/jobs/{jobs_of['dead']}")
    assert "ValueError: no &lt;b&gt;such&lt;/b&gt; account\n\nTraceback" in text
    assert "&lt;i&gt;7&lt;/i&gt;" in text
    assert "id-7" in text


def test_no_name_becomes_html(browser: Browser, session: Session) -> None:
    bad = "<script>alert(1)</script>\"'&"
    message = f'{{"task": "{bad.replace(chr(34), "")}"}}'
    session.execute(
        "INSERT INTO jobs (queue, message, job_status, reason) VALUES (%s, %s, 3, %s)",
        (bad, message, bad),
    )
    job_id = session.value("SELECT MAX(id) FROM jobs")
    query = urlencode({"queue": bad, "task": bad, "older_than": bad})
    pages = [browser.get(path) for path in ("/", "/jobs", f"/jobs/{job_id}")]
    pages.append(browser.get(f"/jobs?{query}", 400))
    pages.append(browser.get("/?done=<script>"))
    for text in pages:
        assert "<script" not in text
        assert "\"'&" not in text
    assert all("&lt;script&gt;alert(1)" in text for text in pages[:4])


def test_what_is_not_there_is_not_found(browser: Browser) -> None:
    for path in ("/jobs/99999", "/nothing", "/jobs/../style.css", "/sign-in"):
        browser.get(path, 404)


def test_each_answer_forbids_scripts_frames_and_other_sites(browser: Browser) -> None:
    for path in ("/", "/jobs", "/nothing", "/style.css"):
        answer, text = browser.ask("GET", path)
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none';")
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert not re.search(r"(src|href|action)=\"(https?:)?//", text)
        assert " style=" not in text


def test_head_has_no_content(browser: Browser) -> None:
    answer, text = browser.ask("HEAD", "/")
    assert (answer.status, text) == (200, "")


# -- what is refused -------------------------------------------------------------------------------


def test_without_a_token_nothing_can_be_changed(
    browser: Browser, jobs_of: dict[str, int], session: Session
) -> None:
    before = statuses(session)
    assert "<button" not in browser.get("/")
    assert "read-only" in browser.get("/")
    for path in ("/jobs/retry", "/jobs/discard", "/queues/pause", "/sign-in"):
        for key in ("", TOKEN):
            fields: dict[str, Any] = {"id": jobs_of["dead"], "key": key, "token": key}
            assert browser.post(path, **fields)[0] == 403
    assert browser.post("/jobs/retry", {"X-Mysqllock-Token": ""}, id=jobs_of["dead"])[0] == 403
    assert statuses(session) == before


def test_a_wrong_token_signs_nobody_in(actor: Browser, jobs_of: dict[str, int]) -> None:
    assert actor.post("/sign-in", token="another one of 16") == (403, "")  # noqa: S106 - wrong
    assert "<button" not in actor.get(f"/jobs/{jobs_of['dead']}")


def test_a_form_needs_its_key_and_must_come_from_this_site(
    actor: Browser, jobs_of: dict[str, int], session: Session
) -> None:
    key, dead = actor.sign_in(), jobs_of["dead"]
    elsewhere = (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    )
    for headers in elsewhere:
        assert actor.post("/jobs/retry", headers, id=dead, key=key)[0] == 403
    assert actor.post("/jobs/retry", id=dead)[0] == 403
    assert actor.post("/jobs/retry", id=dead, key=key[:-1] + "g")[0] == 403
    assert statuses(session)[dead] == "dead"
    # a key of somebody else's cookie
    stranger = Browser(actor._site)  # noqa: SLF001 - a second browser
    assert stranger.post("/jobs/retry", id=dead, key=key)[0] == 403
    assert actor.get("/jobs/retry", 404)
    assert statuses(session)[dead] == "dead"


def test_a_cookie_cannot_be_made_up(actor: Browser) -> None:
    actor.sign_in()
    until, _, signature = actor._cookie.partition("=")[2].partition(".")  # noqa: SLF001 - to forge
    for forged in (f"{int(until) + 1}.{signature}", f"{until}.{signature[:-1]}", until, "²."):
        headers = {"Cookie": f"mysqllock={forged}".encode().decode("latin-1")}
        _, text = actor.ask("GET", "/", headers=headers)
        assert "Sign in to act" in text


def test_a_name_that_leads_here_by_somebody_elses_doing_is_refused(browser: Browser) -> None:
    for host in ("evil.example", "evil.example:9141", ""):
        browser.get("/jobs", 421, Host=host)
        assert browser.post("/jobs/retry", {"Host": host})[0] == 421
    for host in ("localhost:9141", "127.0.0.1", "[::1]:9141"):
        browser.get("/jobs", Host=host)


@pytest.mark.parametrize("length", ["1000000", "-1", "ten"])
def test_a_form_of_no_sensible_size_is_refused(browser: Browser, length: str) -> None:
    answer, _ = browser.ask("POST", "/jobs/retry", headers={"Content-Length": length})
    assert answer.status == 413


def test_beyond_this_machine_there_is_no_page_without_a_token(
    session: Session, mysqllock: Command
) -> None:
    refused = mysqllock("web", "--host", "0.0.0.0", "--port", "0")  # noqa: S104 - is refused
    assert refused.returncode == 1
    assert "MYSQLLOCK_WEB_TOKEN" in refused.stderr
    short = mysqllock("web", "--token", "secret", "--port", "0")
    assert short.returncode == 1
    assert "too short" in short.stderr
    assert "secret" not in short.stderr
    words = ("web", "--host", "0.0.0.0")  # noqa: S104 - of the test's machine
    with fleet(session), serving(session.address.url(), *words, MYSQLLOCK_WEB_TOKEN=TOKEN) as site:
        browser = Browser(site)
        for path in ("/", "/jobs", "/jobs/1"):
            answer, text = browser.ask("GET", path)
            assert (answer.status, answer.headers["Location"], text) == (303, "/sign-in", "")
        assert "emails" not in browser.get("/sign-in")
        browser.sign_in()
        assert "emails" in browser.get("/")


# -- actions ---------------------------------------------------------------------------------------


def test_who_has_the_token_retries_and_discards(
    actor: Browser, jobs_of: dict[str, int], session: Session
) -> None:
    key, dead = actor.sign_in(), jobs_of["dead"]
    text = actor.get(f"/jobs/{dead}")
    assert 'formaction="/jobs/retry"' in text
    status, target = actor.post("/jobs/retry", id=dead, from_job=dead, key=key)
    assert (status, target) == (303, f"/jobs/{dead}?done=retried&jobs=1")
    assert "Queued again: 1 of the jobs." in actor.get(target)
    assert statuses(session)[dead] == "ready"
    chosen = [jobs_of[name] for name in ("ready", "scheduled", "running")]
    status, target = actor.post("/jobs/discard", id=chosen, key=key, queue="emails")
    assert (status, target) == (303, "/jobs?queue=emails&done=discarded&jobs=2")
    assert "Discarded: 2 of the jobs." in actor.get(target)
    assert set(statuses(session)) == {dead, jobs_of["running"], jobs_of["other"]}


def test_who_has_the_token_pauses_and_resumes(actor: Browser, session: Session) -> None:
    def paused() -> set[str]:
        return {queue.queue for queue in Inspection(session).queues() if queue.paused_at}

    key = actor.sign_in()
    assert actor.post("/queues/pause", queue="emails", key=key) == (303, "/?done=paused")
    assert paused() == {"emails", "slow"}
    assert "The queue is paused." in actor.get("/?done=paused")
    assert actor.post("/queues/resume", queue="slow", key=key) == (303, "/?done=resumed")
    assert paused() == {"emails"}
    assert actor.post("/queues/pause", queue="", key=key)[0] == 503
    assert actor.post("/queues/burn", queue="emails", key=key)[0] == 404


def test_a_program_sends_the_token_in_a_header(
    actor: Browser, jobs_of: dict[str, int], session: Session
) -> None:
    headers = {"X-Mysqllock-Token": TOKEN}
    assert actor.post("/jobs/retry", headers, id=jobs_of["dead"])[0] == 303
    assert statuses(session)[jobs_of["dead"]] == "ready"


def test_after_signing_out_nothing_is_changed_any_more(
    actor: Browser, jobs_of: dict[str, int]
) -> None:
    key = actor.sign_in()
    assert actor.post("/sign-out", key=key) == (303, "/")
    assert "Sign in to act" in actor.get("/")
    assert actor.post("/jobs/retry", id=jobs_of["dead"], key=key)[0] == 403


# -- the server ------------------------------------------------------------------------------------


def test_a_lost_server_is_said_so_and_the_page_is_back_with_it(
    start_server: Callable[..., DevServer],
) -> None:
    server = start_server()
    with serving(server.create_database(), "web", migrates=True) as site:
        browser = Browser(site)
        browser.get("/")
        server.stop()
        eventually(lambda: browser.ask("GET", "/")[0].status == 503)
        for path in ("/", "/jobs", "/jobs/1"):
            text = browser.get(path, 503)
            assert "cannot be reached" in text
            assert 'http-equiv="refresh"' in text
        server.start()
        browser.get("/")
        assert site.ended() == 0
