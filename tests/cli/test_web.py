"""``mysqllock web`` over real HTTP: what is shown, and what is refused."""

from __future__ import annotations

import json
import os
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPResponse
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urljoin

import pytest

from celery_mysqllock import MySQLLock
from celery_mysqllock.jobs import Inspection
from tests.cli.fleet import NAME, fleet
from tests.cli.serving import Site, serving
from tests.waiting import eventually

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from celery_mysqllock.mysql import Session
    from devserver import DevServer

    Command = Callable[..., subprocess.CompletedProcess[str]]

TOKEN = "a token of a test"  # noqa: S105 - it opens nothing else


@pytest.fixture
def url(telling_url: str) -> str:
    """A database on a server that lists its locks."""
    return telling_url


class Browser:
    """Somebody who looks at the site.

    Args:
        site: Where.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self.port = site.port
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
        here = path.partition("?")[0]
        return re.sub(
            r'(href|action)="([^"]*)"',
            lambda found: f'{found[1]}="{urljoin(here, found[2])}"',
            text,
        )

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
        target = answer.headers.get("Location", "")
        return answer.status, urljoin(path, target) if target else ""

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
    for path in ("/jobs/99999", "/nothing", "/jobs/../static/style.css", "/sign-in"):
        browser.get(path, 404)


def test_each_answer_forbids_scripts_frames_and_other_sites(browser: Browser) -> None:
    for path in ("/", "/jobs", "/nothing", "/static/style.css"):
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
    content, moment, signature = actor._cookie.partition("=")[2].rsplit(".", 2)  # noqa: SLF001 - to forge
    flipped = signature[:-5] + ("A" if signature[-5] != "A" else "B") + signature[-4:]
    for forged in (f"{content}x.{moment}.{signature}", f"{content}.{moment}.{flipped}", "².", "x"):
        headers = {"Cookie": f"mysqllock={forged}".encode().decode("latin-1")}
        _, text = actor.ask("GET", "/", headers=headers)
        assert "Sign in to act" in text


def test_a_name_that_leads_here_by_somebody_elses_doing_is_refused(browser: Browser) -> None:
    for host in ("evil.example", "evil.example:9141", "localhost.evil.example"):
        browser.get("/jobs", 421, Host=host)
        assert browser.post("/jobs/retry", {"Host": host})[0] == 421
    for host in ("localhost:9141", "127.0.0.1", "[::1]:9141", "LOCALHOST", "localhost."):
        browser.get("/jobs", Host=host)


@pytest.mark.parametrize(
    ("length", "status"),
    [("1000000", 413), ("-1", 400), ("ten", 400), ("+5", 400), ("5_0", 400), ("\u0665", 400)],
)
def test_a_form_of_no_sensible_size_is_refused(browser: Browser, length: str, status: int) -> None:
    sent = {"Content-Length": length.encode().decode("latin-1")}
    answer, _ = browser.ask("POST", "/jobs/retry", headers=sent)
    assert answer.status == status


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
            assert answer.status == 303
            assert urljoin(path, answer.headers["Location"]) == "/sign-in"
            assert "emails" not in text
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


# -- what is large, and what wears a token out -----------------------------------------------------


def test_a_large_job_is_cut_and_can_be_downloaded(browser: Browser, session: Session) -> None:
    message = json.dumps({"task": "shop.pay", "args": ["ä" * 1_500_000]}, ensure_ascii=False)
    session.execute(
        "INSERT INTO jobs (queue, message, job_status, reason) VALUES ('big', %s, 3, %s)",
        (message, "why " * 12_000),
    )
    job_id = session.value("SELECT MAX(id) FROM jobs")
    for path in ("/", "/jobs", f"/jobs/{job_id}"):
        assert len(browser.get(path)) < 300_000
    text = browser.get(f"/jobs/{job_id}")
    assert f"The beginning of {len(message)} characters." in text
    assert f'href="/jobs/{job_id}/message"' in text
    answer, whole = browser.ask("GET", f"/jobs/{job_id}/message")
    assert whole == message
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert answer.headers["Content-Type"].startswith("text/plain")
    small = browser.get("/jobs/1")
    assert "The beginning of" not in small


def test_nothing_on_a_page_is_unseen_or_turns_the_text(browser: Browser, session: Session) -> None:
    bad = "a\u202eb\x1bc\u2028d"
    message = json.dumps({"task": bad, "args": [bad, "\ud800"]}, ensure_ascii=False)
    session.execute(
        "INSERT INTO jobs (queue, message, job_status, reason) VALUES (%s, %s, 3, %s)",
        (bad, message.replace("\ud800", "\\ud800"), bad),
    )
    job_id = session.value("SELECT MAX(id) FROM jobs")
    for path in ("/", "/jobs", f"/jobs/{job_id}"):
        text = browser.get(path)
        assert r"a\u202eb\x1bc\u2028d" in text
        assert not set("\u202e\x1b\u2028") & set(text)
    # and a queue of that name is still found
    assert f"/jobs/{job_id}" in browser.get(f"/jobs?{urlencode({'queue': bad})}")


@pytest.mark.parametrize("way", ["form", "header", "header of a GET"])
def test_a_wrong_token_costs_a_second_on_each_way_in(actor: Browser, way: str) -> None:
    def ask() -> int:
        if way == "form":
            return actor.post("/sign-in", token="another one of 16")[0]  # noqa: S106 - wrong
        headers = {"X-Mysqllock-Token": "another one of 16"}
        return actor.ask("GET" if "GET" in way else "POST", "/", headers=headers)[0].status

    with ThreadPoolExecutor(16) as guesses:
        begun = time.monotonic()
        found = list(guesses.map(lambda _: ask(), range(16)))
    # no upper bound is asserted: a machine may be slow
    assert time.monotonic() - begun >= 1.0
    assert set(found) <= {403, 429}
    assert 403 in found
    assert actor.get("/")
    actor.sign_in()


# -- 200 at once, and requests that are none -------------------------------------------------------


def test_200_at_once_are_all_answered(browser: Browser) -> None:
    paths = ("/", "/jobs", "/jobs/1", "/static/style.css")
    with ThreadPoolExecutor(200) as readers:
        answers = list(
            readers.map(lambda n: browser.ask("GET", paths[n % 4])[0].status, range(400))
        )
    assert answers == [200] * 400


def exchange(browser: Browser, request: bytes) -> bytes:
    """All that comes back for these bytes."""
    with socket.create_connection(("127.0.0.1", browser.port), 30) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65_536), b""))


def test_a_body_behind_a_get_is_not_the_next_request(browser: Browser) -> None:
    hidden = b"GET /jobs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    for way in (
        b"Content-Length: %d\r\n\r\n%s" % (len(hidden), hidden),
        b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(hidden), hidden),
    ):
        answer = exchange(browser, b"GET /static/style.css HTTP/1.1\r\nHost: localhost\r\n" + way)
        assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    "head",
    [
        *(
            b"Host: %s" % host
            for host in (b"[", b"a b", b"[::1", b"a/b", b"a@localhost", b"", b"\xff")
        ),
        b"Host: localhost\r\nContent-Length: 1\r\nContent-Length: 2",
        b"Host: localhost\r\nContent-Length: 0x10",
        b"X: no host",
    ],
)
def test_what_is_no_request_is_a_400_and_no_traceback(session: Session, head: bytes) -> None:
    with serving(session.address.url(), "web", keeps_errors=True) as site:
        browser = Browser(site)
        for path in (b"/", b"/jobs/1", b"//[", b"/jobs?queue=%ff%00"):
            answer = exchange(browser, b"GET " + path + b" HTTP/1.1\r\n" + head + b"\r\n\r\n")
            assert answer.split()[1] == b"400"
        assert browser.ask("GET", "/")[0].status == 200
        assert site.ended() == 0
        assert site.errors() == ""


@pytest.mark.parametrize(
    "path",
    [
        *("/jobs/" + "9" * 5000, "/jobs/99999999999999999999", "/jobs/%00", "//[", "/%ff"),
        *(
            "/jobs?older_than=" + "9" * 400,
            "/jobs?older_than=" + "9" * 300,
            "/jobs?older_than=99999999999d",
            "/jobs?queue=%00%ff",
        ),
        *("/jobs?task=%F0%9F%92%A9", "/?done=retried&jobs=" + "9" * 5000, "/jobs/1/message/x"),
    ],
)
def test_an_odd_path_is_no_traceback(session: Session, path: str) -> None:
    with fleet(session), serving(session.address.url(), "web", keeps_errors=True) as site:
        assert Browser(site).ask("GET", path)[0].status in (200, 400, 404)
        assert site.ended() == 0
        assert site.errors() == ""


@pytest.mark.parametrize(("command", "package"), [("web", "flask"), ("metrics", "waitress")])
def test_without_its_packages_it_says_what_to_install(
    mysqllock: Command, tmp_path: Path, command: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"{package}.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    done = mysqllock(command, "--port", "0")
    assert done.returncode == 1
    assert f"pip install 'celery-mysqllock[{command}]'" in done.stderr
    assert mysqllock("queues", "list").returncode == 0


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
