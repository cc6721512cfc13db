"""``mysqllock web`` behind a real nginx, as people put it there."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urljoin, urlsplit

import pytest

from celery_mysqllock.jobs import Inspection
from tests.cli.fleet import fleet
from tests.cli.serving import serving
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from celery_mysqllock.mysql import Session

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
pytestmark = pytest.mark.skipif(NGINX is None, reason="there is no nginx here")

TOKEN = "a token of a test"  # noqa: S105 - it opens nothing else
_CONFIGURATION = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{ }}
http {{
  access_log off;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen 127.0.0.1:{port}; {location} }}
}}
"""


@contextmanager
def nginx(folder: Path, location: str) -> Iterator[int]:
    """An nginx with that location, for the block; its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    configuration = folder / "nginx.conf"
    configuration.write_text(_CONFIGURATION.format(folder=folder, port=port, location=location))
    assert NGINX is not None
    words = [NGINX, "-c", str(configuration), "-e", str(folder / "error.log")]
    process = subprocess.Popen(words)
    try:
        eventually(lambda: _is_open(port))
        yield port
    finally:
        process.terminate()
        process.wait(30)


def _is_open(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


class Browser:
    """Somebody behind the proxy, with a browser that keeps a cookie and resolves links.

    Args:
        port: The proxy's.
        headers: What the browser sends with each request.
        sent: What it sends with a form.
    """

    def __init__(self, port: int, headers: Mapping[str, str], sent: Mapping[str, str]) -> None:
        self._port = port
        self._headers = dict(headers)
        self._sent = dict(sent)
        self.cookie = ""

    def ask(self, method: str, path: str, form: str | None = None) -> tuple[int, str, str]:
        """Status, text, and where it leads."""
        connection = HTTPConnection("127.0.0.1", self._port, timeout=30)
        headers = {**self._headers, "Cookie": self.cookie.partition(";")[0]}
        if form is not None:
            headers |= {**self._sent, "Content-Type": "application/x-www-form-urlencoded"}
        connection.request(method, path, form, headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        self.cookie = answer.headers.get("Set-Cookie") or self.cookie
        target = answer.headers.get("Location", "")
        return answer.status, text, urlsplit(urljoin(path, target)).path if target else ""

    def links(self, path: str) -> dict[str, str]:
        """Each page that is reached from there, and its text."""
        seen: dict[str, str] = {}
        left = [path]
        while left:
            page = left.pop()
            if page in seen:
                continue
            status, text, _ = self.ask("GET", page)
            assert status == 200, (page, text)
            seen[page] = text
            found = re.findall(r'(?:href|src)="([^"#]+)"', text.replace("&amp;", "&"))
            left += [urljoin(page, one) for one in found if not one.startswith("data:")]
        return seen

    def post(self, page: str, action: str, **fields: object) -> tuple[int, str]:
        """Send a form of that page, by the address that the page gives; where it leads."""
        _, text, _ = self.ask("GET", page)
        (target,) = set(re.findall(rf'action="([^"]*{action})"', text))
        key = re.search(r'name="key" value="([^"]+)"', text)
        given = {**({"key": key[1]} if key else {}), **fields}
        status, _, leads_to = self.ask("POST", urljoin(page, target), urlencode(given))
        return status, leads_to


HTTPS = {"Origin": "https://ops.example:8443"}
MODERN = {**HTTPS, "Sec-Fetch-Site": "same-origin"}
PASSES_ON = (
    "proxy_set_header X-Forwarded-Proto https; proxy_set_header X-Forwarded-Host $http_host;"
    "proxy_set_header X-Forwarded-Prefix /ops;"
)


@pytest.mark.parametrize(
    ("path", "location", "options", "headers", "sent"),
    [
        pytest.param(
            *("/ops/", "location /ops/ { proxy_pass http://127.0.0.1:%d/; }", []),
            *({"Host": "ops.example:8443"}, MODERN),
            id="below a path, nothing set",
        ),
        pytest.param(
            *("/", "location / { proxy_pass http://127.0.0.1:%d; proxy_set_header Host $host; }"),
            *(["--allow-host", "ops.example"], {"Host": "OPS.Example:8443"}, HTTPS),
            id="on another port, in upper case, in an old browser",
        ),
        pytest.param(
            *("/", "location / { proxy_pass http://127.0.0.1:%d; }"),
            *(["--allow-host", "ops.example"], {"Host": "ops.example:8443"}, HTTPS),
            id="with the proxy's own name for it",
        ),
        pytest.param(
            *("/ops/", "location /ops/ { proxy_pass http://127.0.0.1:%d; }", ["--prefix", "/ops"]),
            *({"Host": "ops.example"}, MODERN),
            id="below a path that is left in the requests",
        ),
        pytest.param(
            *("/a/b/ops/", "location /a/b/ops/ { proxy_pass http://127.0.0.1:%d/; }", []),
            *({"Host": "ops.example"}, MODERN),
            id="deep below",
        ),
        pytest.param(
            *("/ops/", "location /ops/ { proxy_pass http://127.0.0.1:%d/; " + PASSES_ON + " }"),
            *(["--proxy", "--allow-host", "ops.example"], {"Host": "ops.example:8443"}, HTTPS),
            id="told of all",
        ),
    ],
)
def test_behind_a_proxy_it_is_read_and_acted_on(  # noqa: PLR0913, PLR0917 - the case, and fixtures
    session: Session,
    tmp_path: Path,
    path: str,
    location: str,
    options: list[str],
    headers: dict[str, str],
    sent: dict[str, str],
) -> None:
    url = session.address.url()
    with (
        fleet(session) as ids,
        serving(url, "web", *options, MYSQLLOCK_WEB_TOKEN=TOKEN) as site,
        nginx(tmp_path, location % site.port) as port,
    ):
        browser = Browser(port, headers, sent)
        pages = browser.links(path)
        assert all(page.startswith(path) for page in pages)
        assert f"{path}jobs/{ids['dead']}" in pages
        assert any(":root" in text for text in pages.values())
        sign_in = f"{path}sign-in"
        assert browser.post(sign_in, "sign-in", token=TOKEN) == (303, path)
        assert ("Secure" in browser.cookie) == ("--proxy" in options)
        assert browser.post(path, "queues/pause", queue="emails") == (303, path)
        assert "emails" in {one.queue for one in Inspection(session).queues() if one.paused_at}
        job = f"{path}jobs/{ids['dead']}"
        assert browser.post(job, "jobs/retry", id=ids["dead"], from_job=ids["dead"]) == (303, job)
        assert browser.ask("GET", f"{path}nothing")[0] == 404
        assert browser.post(path, "sign-out") == (303, path)


def test_a_form_of_another_site_is_refused_behind_a_proxy_too(
    session: Session, tmp_path: Path
) -> None:
    location = "location / { proxy_pass http://127.0.0.1:%d; proxy_set_header Host $http_host; }"
    words = ("web", "--allow-host", "ops.example")
    with (
        fleet(session),
        serving(session.address.url(), *words, MYSQLLOCK_WEB_TOKEN=TOKEN) as site,
        nginx(tmp_path, location % site.port) as port,
    ):
        for sent in (
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {**HTTPS, "Sec-Fetch-Site": "cross-site"},
            {**HTTPS, "Sec-Fetch-Site": "same-site"},
        ):
            browser = Browser(port, {"Host": "ops.example"}, sent)
            assert browser.post("/sign-in", "sign-in", token=TOKEN) == (403, "")
        assert Browser(port, {"Host": "evil.example"}, {}).ask("GET", "/")[0] == 421
