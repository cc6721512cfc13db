"""What all pages have: the frame round their content, and the forms for actions."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from string import Template
from typing import TYPE_CHECKING

from celery_mysqllock.cli.web.markup import Markup, tag, together

if TYPE_CHECKING:
    from collections.abc import Mapping

_TEMPLATE = Template(resources.files(__package__).joinpath("page.html").read_text("utf-8"))
STYLE = resources.files(__package__).joinpath("style.css").read_text("utf-8")
_PAGES = {"/": "Overview", "/jobs": "Jobs"}


@dataclass(frozen=True)
class Reader:
    """Who looks at a page.

    Attributes:
        form_key: What each form holds, None for somebody who may not act.
        may_sign_in: Whether there is a token to sign in with.
        may_read: Whether there is anything to see without signing in.
    """

    form_key: str | None = None
    may_sign_in: bool = False
    may_read: bool = True

    def form(
        self, action: str, label: str, *, danger: bool = False, **fields: object
    ) -> Markup | None:
        """A button that does something; None for somebody who may not.

        Args:
            action: Where it is sent.
            label: What is on the button.
            danger: Whether it destroys.
            fields: What is sent.
        """
        if self.form_key is None:
            return None
        button = tag("button", label, type="submit", class_="danger" if danger else None)
        return tag("form", self.hidden(**fields), button, method="post", action=action)

    def hidden(self, **fields: object) -> Markup:
        """The hidden fields of a form, its key among them."""
        given = {"key": self.form_key, **fields}
        return together(
            [
                tag("input", type="hidden", name=name, value=value)
                for name, value in given.items()
                if value is not None
            ]
        )


def page(  # noqa: PLR0913 - each is named at the call
    title: str,
    *content: object,
    reader: Reader,
    path: str = "",
    notice: Markup | None = None,
    footer: object = None,
    refresh: int | None = None,
) -> str:
    """A whole page.

    Args:
        title: Its title.
        content: What is on it.
        reader: Who looks at it.
        path: Which entry of the navigation it is.
        notice: What is to be read first.
        footer: What is below.
        refresh: Seconds after which the browser asks again, None for never.
    """
    links = [
        tag("a", name, href=target, aria_current="page" if target == path else None)
        for target, name in _PAGES.items()
    ]
    again = None if refresh is None else tag("meta", http_equiv="refresh", content=refresh)
    parts: Mapping[str, object] = {
        "refresh": again,
        "title": title,
        "nav": links if reader.may_read else None,
        "session": _session(reader),
        "notice": notice,
        "main": together(tag("h1", title), *content),
        "footer": footer,
    }
    return _TEMPLATE.substitute({name: together(part) for name, part in parts.items()})


def notice(text: str, *, is_problem: bool = False) -> Markup:
    """What is to be read first; a screen reader says it."""
    kind = "notice problem" if is_problem else "notice"
    return tag("p", text, class_=kind, role="alert" if is_problem else "status")


def facts(pairs: Mapping[str, object]) -> Markup:
    """Names and values; those without a value are left out."""
    shown = [
        together(tag("dt", name), tag("dd", value))
        for name, value in pairs.items()
        if value is not None
    ]
    return tag("dl", shown, class_="facts")


def sign_in_page(reader: Reader, *, is_wrong: bool = False) -> str:
    """Where the token is given."""
    field = tag(
        "label",
        "Token",
        tag("input", type="password", name="token", required=True, autocomplete="current-password"),
    )
    form = tag(
        "form",
        # password managers ask for a name
        tag("input", name="username", value="mysqllock", autocomplete="username", hidden=True),
        field,
        tag("button", "Sign in", type="submit"),
        method="post",
        action="/sign-in",
        class_="search",
    )
    wrong = notice("That is not the token.", is_problem=True) if is_wrong else None
    return page("Sign in", tag("section", form), reader=reader, notice=wrong)


def message_page(title: str, text: str, reader: Reader, *, refresh: int | None = None) -> str:
    """A page that says what is wrong."""
    return page(title, notice(text, is_problem=True), reader=reader, refresh=refresh)


def _session(reader: Reader) -> Markup | None:
    if reader.form_key is not None:
        return reader.form("/sign-out", "Sign out")
    if reader.may_sign_in:
        return tag("a", "Sign in to act", href="/sign-in")
    return tag("span", "read-only", class_="faint")
