"""Every code block of every page of the documentation does what the page says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.page import blocks
from tests.docs.reader import Reader

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [path for path in sorted(DOCS.rglob("*.md")) if "```" in path.read_text("utf-8")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_the_blocks_of_a_page_run_in_order(page: Path, url: str, tmp_path: Path) -> None:
    folder = tmp_path / "reader"
    folder.mkdir()
    with Reader(url, folder) as reader:
        for block in blocks(page):
            reader.follow(block)


@pytest.mark.parametrize("info", ["", "python2", "sh", "text", 'sql title="x"', "python linenums"])
def test_a_block_that_cannot_be_run_is_an_error(info: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Title\n\n```{info}\nx\n```\n")
    with pytest.raises(ValueError, match=r"page.md:3: a block .* cannot be run"):
        blocks(page)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("```python\nraise ValueError(7)\n```\n", "ValueError: 7"),
        ("```pycon\n>>> 1 + 1\n3\n```\n", "Expected:\n    3"),
        ("```console\n$ false\n```\n", "false"),
        ("```console\n$ echo one\ntwo\n```\n", "and not\ntwo"),
        ('```console title="T"\n$ echo one\ntwo\n```\n', "T says\none\n\nand not"),
        ("```sql\nSELECT nothing FROM nowhere;\n```\n", "nowhere"),
    ],
    ids=["python", "pycon", "console", "output", "terminal", "sql"],
)
def test_a_wrong_block_is_noticed(text: str, problem: str, url: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    folder = tmp_path / "reader"
    folder.mkdir()
    (block,) = blocks(page)
    with Reader(url, folder) as reader, pytest.raises(Exception, match=problem):
        reader.follow(block)
