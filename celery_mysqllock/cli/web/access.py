"""Who may look at the page and who may act: a token, a session for it, and a key for each form."""

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
_COST = 1.0  # seconds that a wrong token costs
_AT_ONCE = 4  # wrong tokens that cost at the same time; meanwhile no other is looked at


class Access:
    """Decides by a request's headers, its form and the session, which Flask signs.

    Args:
        token: What an action needs, None where none is possible.
        host: Where the page listens. Beyond this machine reading needs the token too.
        names: Further names under which the page is asked for, as by a proxy in front of it.

    Raises:
        SettingsError: The token is too short, or missing where it is needed.
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
        """Whether anybody can sign in to act."""
        return self._token is not None

    def check(self, given: str) -> None:
        """Return when that is the token.

        Raises:
            Forbidden: It is not, which costs a second.
            TooManyRequests: Wrong ones cost their second just now: this is not looked at.
        """
        if self._token is None:
            raise Forbidden("There is no token: nothing can be changed here.")
        if not self._guesses.acquire(blocking=False):
            raise TooManyRequests("Too many wrong tokens: try again in a second.", retry_after=1)
        try:
            if not hmac.compare_digest(_digest(given), _digest(self._token)):
                time.sleep(_COST)
                raise Forbidden("That is not the token.")
        finally:
            self._guesses.release()

    def is_own_form(self, request: Request) -> bool:
        """Whether a browser that sent it says that it comes from a page of ours.

        A proxy may have changed the name and the port by which the page was asked for, so that the
        browser's own word counts. Of one that does not say it the name alone is looked at.
        """
        site = request.headers.get("Sec-Fetch-Site")
        if site is not None:
            return site in ("same-origin", "none")
        origin = request.headers.get("Origin")
        return origin is None or _name(origin) in {_name(f"//{request.host}"), *self._names}

    @staticmethod
    def sign_in() -> None:
        """Have the reader signed in, with a key for the forms."""
        session.permanent = True
        session["key"] = secrets.token_hex(32)

    @staticmethod
    def form_key() -> str:
        """The key of the forms that this reader gets; empty for one who has not signed in."""
        return str(session.get("key", ""))

    def has_key(self, given: str) -> bool:
        """Whether that is the reader's key."""
        key = self.form_key()
        return bool(key) and hmac.compare_digest(given.encode(), key.encode())


def _name(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="replace")).digest()
