"""SQL that is kept in files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.mysql import Statements

if TYPE_CHECKING:
    from pathlib import Path

_FILE = """-- What this file is for.

-- name: first
-- What it does,
-- in two lines.
SELECT id
  FROM {table}
 WHERE id = %(id)s;

-- name: second
DELETE FROM {table}; -- not a line of comment
"""


@pytest.fixture
def statements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Statements:
    package = tmp_path / "a_package_of_sql"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "some.sql").write_text(_FILE, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return Statements("a_package_of_sql", "some.sql", table="jobs")


def test_a_block_is_its_statement_without_its_comments(statements: Statements) -> None:
    assert statements["first"] == "SELECT id\n  FROM `jobs`\n WHERE id = %(id)s"


def test_a_block_ends_where_the_next_begins(statements: Statements) -> None:
    assert statements["second"].startswith("DELETE FROM `jobs`")


def test_an_unknown_block_is_an_error(statements: Statements) -> None:
    with pytest.raises(KeyError):
        statements["third"]


def test_two_blocks_of_one_name_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "another_package_of_sql"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "some.sql").write_text(f"{_FILE}\n-- name: first\nSELECT 1", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"some\.sql has two blocks"):
        Statements("another_package_of_sql", "some.sql", table="jobs")


def test_a_fragment_stands_where_statements_name_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "a_package_of_fragments"
    package.mkdir()
    (package / "__init__.py").touch()
    fragment = (
        "-- fragment: first_id\n-- The first.\n(SELECT MIN(id) FROM {table} WHERE {is_old})\n"
    )
    condition = "-- fragment: is_old\nage > 9\n"
    statements = "-- name: one\nSELECT {first_id};\n-- name: two\nSELECT {first_id}, {first_id};\n"
    (package / "some.sql").write_text(fragment + condition + statements, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    read = Statements("a_package_of_fragments", "some.sql", table="jobs")
    first = "(SELECT MIN(id) FROM `jobs` WHERE age > 9)"
    assert read["one"] == f"SELECT {first}"
    assert read["two"] == f"SELECT {first}, {first}"
