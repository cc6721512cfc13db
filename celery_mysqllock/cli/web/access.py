"""Access to the page: a token, a session after signing in, and a key in each form."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flask import session
from werkzeug.exceptions import Forbidden, TooManyRequests

from celery_mysqllock.cli.serving import is_loopback
from celery_mysqllock.exceptions import SettingsError

if TYPE_CHECKING:
    from flask import Request

_LEAST = 16  # characters of a token
_PENALTY = 1.0  # seconds that a wrong token costs
_AT_ONCE = 4  # wrong tokens that wait at the same time; meanwhile no other is checked


class Access:
    """Decides from a request's headers, its form and the session, which Flask signs.

    Args:
        token: The token for actions, None to allow none.
        host: The address that the page listens on. Unless it is a loopback address, reading needs
            the token too.
        names: Further host names of the page, such as that of a proxy.

    Raises:
        SettingsError: The token is too short, or is missing but needed.
    """

    def __init__(self, token: str | None, host: str, names: tuple[str, ...] = ()) -> None:
        if token is not None and len(token) < _LEAST:
            raise SettingsError(f"The token is too short: it takes {_LEAST} characters or more.")
        self.is_local = is_loopback(host)
        if token is None and not self.is_local:
            raise SettingsError(
                f"--host {host} is reached from other machines, and messages may hold secrets: "
                "set MYSQLLOCK_WEB_TOKEN, which reading then needs too."
            )
        self._token = token
        self._names = {name.lower() for name in names}
        self._guesses = threading.BoundedSemaphore(_AT_ONCE)

    @property
    def has_actions(self) -> bool:
        """Whether actions are possible at all."""
        return self._token is not None

    def check(self, given: str) -> None:
        """Check a token.

        Raises:
            Forbidden: It is wrong; this is raised after a second.
            TooManyRequests: Too many wrong ones wait for that second, so it was not checked.
        """
        if self._token is None:
            raise Forbidden("There is no token: nothing can be changed here.")
        if not self._guesses.acquire(blocking=False):
            raise TooManyRequests("Too many wrong tokens: try again in a second.", retry_after=1)
        try:
            if not hmac.compare_digest(_digest(given), _digest(self._token)):
                time.sleep(_PENALTY)
                raise Forbidden("That is not the token.")
        finally:
            self._guesses.release()

    def is_own_form(self, request: Request) -> bool:
        """Whether the request's browser says that the form is on a page of ours.

        A proxy may have changed the host and port of the request, so Sec-Fetch-Site counts. For a
        browser without that header, the host name of Origin is compared.
        """
        site = request.headers.get("Sec-Fetch-Site")
        if site is not None:
            return site in ("same-origin", "none")
        origin = request.headers.get("Origin")
        return origin is None or _name(origin) in {_name(f"//{request.host}"), *self._names}

    @staticmethod
    def sign_in() -> None:
        """Sign the user in, with a key for the forms."""
        session.permanent = True
        session["key"] = secrets.token_hex(32)

    @staticmethod
    def form_key() -> str:
        """Return the key for this user's forms; empty before signing in."""
        return str(session.get("key", ""))

    def has_key(self, given: str) -> bool:
        """Whether this is the user's key."""
        key = self.form_key()
        return bool(key) and hmac.compare_digest(given.encode(), key.encode())


def _name(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="replace")).digest()
