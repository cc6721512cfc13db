"""A headless Chromium that opens pages, also those of a user who has signed in."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import threading
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_TIMEOUT = 120.0  # seconds for the browser to start and show a page
_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def find_browser() -> str | None:
    """The path of a Chromium, None when there is none."""
    return next((path for name in _NAMES if (path := shutil.which(name))), None)


def look(url: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Open a page in a browser; stderr contains the messages of its console.

    Args:
        url: The page.
        options: Chromium's, such as ``--dump-dom`` or ``--screenshot=FILE``.
    """
    with tempfile.TemporaryDirectory(prefix="browser-") as profile:
        return subprocess.run(
            [
                *(find_browser() or "chromium", "--headless", "--no-sandbox", "--disable-gpu"),
                *(f"--user-data-dir={profile}", "--hide-scrollbars"),
                *("--enable-logging=stderr", *options, url),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT,
        )


def photograph(url: str, path: Path, size: tuple[int, int], *options: str) -> None:
    """Store a picture of a page."""
    width, height = size
    look(url, f"--screenshot={path}", f"--window-size={width},{height}", *options)


@contextmanager
def signed_in(url: str, token: str) -> Iterator[str]:
    """Sign in, and yield the URL of a proxy that shows the site as that user sees it; GET only."""
    host = urlsplit(url).netloc
    entering = HTTPConnection(host, timeout=30)
    entering.request("POST", "/sign-in", urlencode({"token": token}))
    cookie = entering.getresponse().headers["Set-Cookie"].partition(";")[0]
    entering.close()

    class Forward(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            connection = HTTPConnection(host, timeout=30)
            connection.request("GET", self.path, headers={"Cookie": cookie})
            answer = connection.getresponse()
            body = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
            connection.close()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Forward) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
