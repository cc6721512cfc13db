"""The pages lead to each other and to what exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.test_pages import DOCS

PAGES = sorted(DOCS.rglob("*.md"))
ROOT = DOCS.parent
#: Pages for those who look at the repository. README.md is read elsewhere too: see test_readme.py.
BESIDE = [ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", ROOT / "CHANGELOG.md"]
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def _links(page: Path) -> list[tuple[bool, str, Path]]:
    """Whether it is a picture, its text, and where it leads."""
    return [
        (bool(link[1]), link[2], (page.parent / link[3]).resolve())
        for link in _LINK.finditer(page.read_text("utf-8"))
        if not re.match(r"https?:", link[3])
    ]


@pytest.mark.parametrize("page", PAGES + BESIDE, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_pictures_have_a_text(page: Path) -> None:
    for is_picture, text, target in _links(page):
        assert target.is_file(), target
        assert text or not is_picture, f"{target} has no text for those who do not see it"


def test_every_page_is_reached_from_the_index() -> None:
    reached, new = set[Path](), {(DOCS / "index.md").resolve()}
    while new:
        reached |= new
        new = {
            target
            for page in new
            for _, _, target in _links(page)
            if target.suffix == ".md" and target not in reached
        }
    assert {page.resolve() for page in PAGES} <= reached


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    navigation = (DOCS.parent / "mkdocs.yml").read_text("utf-8").partition("\nnav:\n")[2]
    listed = re.findall(r"([\w/-]+\.md)$", navigation, re.MULTILINE)
    assert sorted(listed) == sorted(str(page.relative_to(DOCS)) for page in PAGES)


def test_every_picture_is_on_a_page_and_small() -> None:
    shown = {target for page in PAGES for is_picture, _, target in _links(page) if is_picture}
    pictures = {path.resolve() for path in (DOCS / "pictures").iterdir()}
    on_the_readme = {(DOCS / "pictures" / "overview.svg").resolve()}
    assert pictures == shown | on_the_readme
    for path in pictures:
        assert path.stat().st_size < 64 * 1024, f"{path} is large: make pictures compresses it"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_a_page_has_one_title(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    assert len(re.findall(r"^# ", text, re.MULTILINE)) == 1
