"""Who may look at the page and who may act: a token, a cookie for it, and a key for each form."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from celery_mysqllock.cli.serving import is_loopback
from celery_mysqllock.exceptions import SettingsError

if TYPE_CHECKING:
    from email.message import Message

_COOKIE = "mysqllock"
_LEAST = 16  # characters of a token
_LIFE = 12 * 3600  # seconds for which somebody is signed in
_OURSELVES = frozenset({"localhost", "127.0.0.1", "::1"})


class Access:
    """Decides by a request's headers and form.

    A cookie holds no secret of the user: it says until when it is valid, signed with a key of this
    process. A form's key is signed from the cookie, so that no other page can know it.

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
        self._names = _OURSELVES | {host.strip("[]").lower(), *(name.lower() for name in names)}
        self._key = secrets.token_bytes(32)

    @property
    def has_actions(self) -> bool:
        """Whether anybody can sign in to act."""
        return self._token is not None

    def is_for_us(self, headers: Message) -> bool:
        """Whether the request is for this page, by its name.

        Another site's name may be made to lead to this machine; its scripts could read the page.
        Beyond this machine the cookie, which is bound to the name, is the protection.
        """
        name = urlsplit(f"//{headers.get('Host', '')}").hostname
        return not self.is_local or name in self._names

    def is_own_form(self, headers: Message) -> bool:
        """Whether a browser that sent it says that it comes from a page of ours."""
        if headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            return False
        origin = headers.get("Origin")
        return origin is None or urlsplit(origin).netloc == headers.get("Host")

    def knows(self, given: str | None) -> bool:
        """Whether that is the token; takes as long whatever is given."""
        if self._token is None or given is None:
            return False
        return hmac.compare_digest(_digest(given), _digest(self._token))

    def may_read(self, headers: Message) -> bool:
        """Whether who asks may see the page."""
        return self.is_local or self.is_signed_in(headers)

    def is_signed_in(self, headers: Message) -> bool:
        """Whether who asks has signed in, or sends the token with the request."""
        if self.knows(headers.get("X-Mysqllock-Token")):
            return True
        until, _, signature = _cookie(headers).partition(".")
        return (
            self.has_actions
            and until.isdigit()
            and hmac.compare_digest(signature.encode(), self._sign(f"until {until}").encode())
            and time.time() < int(until)
        )

    def may_act(self, headers: Message, form_key: str) -> bool:
        """Whether the request, with that key in its form, may change something."""
        if self.knows(headers.get("X-Mysqllock-Token")):
            return True
        own = self.form_key(headers).encode()
        return self.is_signed_in(headers) and hmac.compare_digest(form_key.encode(), own)

    def form_key(self, headers: Message) -> str:
        """The key of the forms that this reader gets."""
        return self._sign(f"form {_cookie(headers)}")

    def cookie(self) -> str:
        """A Set-Cookie header for somebody who has shown the token."""
        until = str(int(time.time()) + _LIFE)
        return _set_cookie(f"{until}.{self._sign(f'until {until}')}", _LIFE)

    def no_cookie(self) -> str:
        """A Set-Cookie header that signs out."""
        return _set_cookie("", 0)

    def _sign(self, text: str) -> str:
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()


def _set_cookie(value: str, seconds: int) -> str:
    return f"{_COOKIE}={value}; Max-Age={seconds}; Path=/; HttpOnly; SameSite=Strict"


def _cookie(headers: Message) -> str:
    try:
        found = SimpleCookie(headers.get("Cookie", "")).get(_COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
