"""The tables of the architecture page name what exists: files, classes, functions, all rooms."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import celery_mysqllock
from tests.docs.test_pages import DOCS

PACKAGE = Path(celery_mysqllock.__file__).parent
PAGE = (DOCS / "explanation" / "architecture.md").read_text("utf-8")
_STEP = re.compile(
    r"^\| \d+ \|(?: [A-Z] \|)? (?P<files>`[^|]+`) \| (?P<names>`[^|]+`) \|", re.MULTILINE
)
_QUOTED = re.compile(r"`([^`]+)`")
STEPS = [
    (_QUOTED.findall(step["files"]), _QUOTED.findall(step["names"]))
    for step in _STEP.finditer(PAGE)
]


def test_there_are_steps_to_check() -> None:
    assert len(STEPS) > 35


@pytest.mark.parametrize(("files", "names"), STEPS, ids="+".join)
def test_a_step_is_where_the_page_says(files: list[str], names: list[str]) -> None:
    defined: set[str] = set()
    for file in files:
        own = {
            node.name
            for node in ast.walk(ast.parse((PACKAGE / file).read_text("utf-8")))
            if isinstance(node, (ast.ClassDef, ast.FunctionDef))
        }
        assert own & set(names), f"{file} defines none of {names}"
        defined |= own
    assert set(names) <= defined


def test_every_room_is_on_the_page_and_in_the_picture() -> None:
    picture = (DOCS / "pictures" / "architecture.svg").read_text("utf-8")
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    for room in rooms:
        assert f"`{room}`" in PAGE
        assert f">{room}</text>" in picture
