"""Escapes in texts from rows, programs and servers what would act on a terminal."""

from __future__ import annotations

import json
import unicodedata

# Control characters, invisible ones and those that change the direction of writing, surrogates, and
# unusual line and paragraph separators.
_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# Joiners are part of some scripts.
_HARMLESS = frozenset("\u200c\u200d")
_PLAIN_ENDS = "\n\t"


def visible(text: str, *, keeps: str = "") -> str:
    r"""Escape each character that a terminal would obey, such as ``\x1b``.

    Args:
        text: A text from outside.
        keeps: Characters that are not escaped.
    """
    if text.isprintable():
        return text
    return "".join(_escape(one) if _acts(one) and one not in keeps else one for one in text)


def visible_lines(text: str) -> str:
    """Escape a text of several lines, and keep the lines."""
    return visible(text, keeps=_PLAIN_ENDS)


def visible_json(text: str) -> str:
    """Escape JSON without changing its meaning."""
    if text.isprintable():
        return text
    return "".join(
        json.dumps(one)[1:-1] if _acts(one) and one not in _PLAIN_ENDS else one for one in text
    )


def _acts(one: str) -> bool:
    return unicodedata.category(one) in _CATEGORIES and one not in _HARMLESS


def _escape(one: str) -> str:
    return one.encode("unicode_escape").decode()
