"""Texts of rows, programs and servers as a terminal may get them: none of them acts on it."""

from __future__ import annotations

import json
import unicodedata

# Control characters, those that turn the direction of writing or are unseen, halves of pairs, and
# ends of lines and paragraphs beside the usual one.
_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# What joins letters is part of how some scripts are written.
_HARMLESS = frozenset("\u200c\u200d")
_PLAIN_ENDS = "\n\t"


def visible(text: str, *, keeps: str = "") -> str:
    r"""The text with an escape, such as ``\x1b``, for each character that a terminal would obey.

    Args:
        text: What somebody else has written.
        keeps: Characters that stay as they are.
    """
    if text.isprintable():
        return text
    return "".join(_escape(one) if _acts(one) and one not in keeps else one for one in text)


def visible_lines(text: str) -> str:
    """The same for a text of several lines, which stay lines."""
    return visible(text, keeps=_PLAIN_ENDS)


def visible_json(text: str) -> str:
    """The same for JSON, which means what it did."""
    if text.isprintable():
        return text
    return "".join(
        json.dumps(one)[1:-1] if _acts(one) and one not in _PLAIN_ENDS else one for one in text
    )


def _acts(one: str) -> bool:
    return unicodedata.category(one) in _CATEGORIES and one not in _HARMLESS


def _escape(one: str) -> str:
    return one.encode("unicode_escape").decode()
