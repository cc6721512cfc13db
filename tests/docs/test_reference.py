"""The reference says what the docstrings say now."""

from __future__ import annotations

import pytest

from tests.docs.docstring import markdown
from tests.docs.reference import REFERENCE, pages

#: Pages that are written, and not made.
BY_HAND = ("glossary.md",)


@pytest.mark.parametrize("name", sorted(pages()))
def test_a_page_of_the_reference_is_not_stale(name: str) -> None:
    path = REFERENCE / name
    written = path.read_text("utf-8") if path.exists() else ""
    assert written == pages()[name], "stale; run: python -m tests.docs.reference"


def test_the_reference_has_no_other_page() -> None:
    assert sorted(path.name for path in REFERENCE.iterdir()) == sorted([*pages(), *BY_HAND])


def test_a_docstring_becomes_markdown() -> None:
    docstring = """Do it.

    Now, as ``make`` does::

        make()

    Args:
        what: What to do, in
            two lines.
        **options: These:

            fast: Whether to hurry.

    Returns:
        Whether it was done.
    """
    assert markdown(docstring).split("\n\n") == [
        "Do it.",
        "Now, as `make` does:",
        "```python\nmake()\n```",
        "**Arguments**",
        (
            "- `what`: What to do, in two lines.\n"
            "- `**options`: These:\n"
            "    - `fast`: Whether to hurry."
        ),
        "**Returns**",
        "Whether it was done.",
    ]
