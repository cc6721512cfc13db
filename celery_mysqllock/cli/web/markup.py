"""HTML elements as strings, in which every text is escaped."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_VOID = ("br", "input", "meta")


class Markup(str):
    """HTML. Any other string is text, and is escaped where it is put into an element."""

    __slots__ = ()


def tag(name: str, /, *content: object, **attributes: object) -> Markup:
    """An element.

    Args:
        name: Its name.
        content: Elements, texts and lists of both; None is nothing.
        attributes: With ``_`` for ``-`` and none at the end; True is one without a value, None and
            False are none.
    """
    written = "".join(
        f" {key.strip('_').replace('_', '-')}"
        + ("" if value is True else f'="{escape(str(value), quote=True)}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{together(*content)}</{name}>")


def together(*content: object) -> Markup:
    """Elements and texts one after the other."""
    return Markup("".join(_text(part) for part in content))


def _text(part: object) -> str:
    if part is None:
        return ""
    if isinstance(part, Markup):
        return part
    if isinstance(part, (list, tuple)):
        return together(*part)
    return escape(str(part), quote=True)


def table(
    caption: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    link: Markup | None = None,
) -> Markup:
    """A table that scrolls by itself where the screen is narrow.

    Args:
        caption: What is in it.
        columns: The titles; one that begins with ``>`` is of numbers, on the right.
        rows: The cells; the first one of a row is its header.
        link: Where there is more of it.
    """
    kinds = ["number" if column.startswith(">") else None for column in columns]
    head = [
        tag("th", column.lstrip(">"), scope="col", class_=kind)
        for column, kind in zip(columns, kinds, strict=True)
    ]
    body = [
        tag(
            "tr",
            tag("th", row[0], scope="row", class_=kinds[0]),
            [tag("td", cell, class_=kind) for cell, kind in zip(row[1:], kinds[1:], strict=True)],
        )
        for row in rows
    ]
    title = tag("h2", caption, " ", link)
    if not body:
        return tag("section", title, tag("p", "None.", class_="none"))
    return tag(
        "section",
        title,
        tag(
            "div",
            tag("table", tag("thead", tag("tr", head)), tag("tbody", body), aria_label=caption),
            class_="wide",
            tabindex="0",
            role="region",
            aria_label=caption,
        ),
    )
