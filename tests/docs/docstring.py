"""Turns a docstring of the google style into Markdown."""

from __future__ import annotations

import inspect
import re
import textwrap

_SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Example):(:?)$", re.MULTILINE)
_HEADINGS = {"Args": "Arguments"}
_ITEM = re.compile(r"(\*{0,2}\w+): ")
_LITERAL = re.compile(r"^(?P<lead>.*):(?::)\n\n(?P<code>(?:    .*\n|\n)+)", re.MULTILINE)


def markdown(docstring: str | None) -> str:
    """The Markdown of a docstring: its text, and each section as a bold word and a list."""
    text = inspect.cleandoc(docstring or "")
    pieces = _SECTION.split(text)
    parts = [_prose(pieces[0])]
    for name, _, body in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
        parts.append(f"**{_HEADINGS.get(name, name)}**")
        inner = textwrap.dedent(body.strip("\n"))
        parts.append(_code(inner) if name == "Example" else items(inner))
    return "\n\n".join(part for part in parts if part)


def inline(text: str) -> str:
    """Text without sections, on one line, with reStructuredText's literals as Markdown's."""
    return re.sub(r"\s+", " ", text.replace("``", "`")).strip()


def _code(text: str) -> str:
    return f"```python\n{text.strip()}\n```"


def _prose(text: str) -> str:
    parts = []
    end = 0
    text = f"{text.strip()}\n"
    for literal in _LITERAL.finditer(text):
        parts += [_paragraphs(text[end : literal.start()] + literal["lead"] + ":")]
        parts += [_code(textwrap.dedent(literal["code"]))]
        end = literal.end()
    parts.append(_paragraphs(text[end:]))
    return "\n\n".join(part for part in parts if part)


def _paragraphs(text: str) -> str:
    return "\n\n".join(inline(part) for part in re.split(r"\n\s*\n", text) if part.strip())


def items(text: str) -> str:
    """A list of items ``name: text``, each of which may have a list below a blank line."""
    if not _ITEM.match(text):
        return _paragraphs(text)
    listed = []
    for item in re.split(r"\n(?=\S)", text):
        found = _ITEM.match(item)
        assert found, item
        first, blank, below = item[len(found[1]) + 2 :].partition("\n\n")
        listed.append(f"- `{found[1]}`: {inline(first)}")
        if blank:
            listed.append(textwrap.indent(items(textwrap.dedent(below)), "    "))
    return "\n".join(listed)
