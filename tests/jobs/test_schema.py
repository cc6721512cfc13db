"""A new table, an adopted one and one of the release before are in the end what schema.sql says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from celery_mysqllock.jobs import Migrations
from celery_mysqllock.jobs.ephemeral import table_names
from celery_mysqllock.jobs.schema import (
    NEWEST,
    ORIGINAL,
    TableComment,
    TableDefinition,
    Version,
    publish_procedure,
)
from celery_mysqllock.mysql import Address, Session, Statements
from tests.jobs.schemas import described, make_schema_8
from tests.jobs.test_adoption import SHAPES

if TYPE_CHECKING:
    from collections.abc import Callable

    from devserver import DevServer, GivenServer

Described = dict[str, list[tuple[Any, ...]]]


def make_as_the_file_says(session: Session) -> None:
    names = {"jobs": "jobs", **table_names("jobs")}
    schema = Statements(
        "celery_mysqllock.jobs", "schema.sql", publish=publish_procedure("jobs"), **names
    )
    for name in schema:
        sql = (
            schema[name].replace("{table}", "jobs").replace("{comment}", str(TableComment(NEWEST)))
        )
        session.execute(sql)


def adopt(shape: str) -> Callable[[Session], None]:
    def make(session: Session) -> None:
        session.execute(f"CREATE TABLE jobs {shape}")
        Migrations(session).apply()

    return make


def upgrade(session: Session) -> None:
    make_schema_8(session)
    Migrations(session).apply()


def upgrade_adopted(session: Session) -> None:
    make_schema_8(session, adopted=SHAPES["an index for the old consumers"])
    Migrations(session).apply()


def without_what_is_kept(found: Described) -> Described:
    """Leave out what an adopted table keeps: collation, own keys, its three columns' types."""
    return {
        **found,
        "tables": [row[:4] + row[5:6] if row[0] == "jobs" else row for row in found["tables"]],
        "columns": [
            row[:3] if row[0] == "jobs" and row[2] in ORIGINAL else row for row in found["columns"]
        ],
        "keys": [row for row in found["keys"] if row[1] != "todo"],
    }


@pytest.fixture
def as_made(server: DevServer | GivenServer) -> Callable[[Callable[[Session], None]], Described]:
    """What the server says of the tables that a function makes in a database of its own."""

    def describe(make: Callable[[Session], None]) -> Described:
        address = Address.parse(server.create_database())
        with Session(address) as session:
            make(session)
            found = described(session)
        server.drop_database(address.database)
        return found

    return describe


MAKERS = {
    "new": lambda session: Migrations(session).apply(),
    "of the release before": upgrade,
    "adopted by the release before": upgrade_adopted,
    **{f"adopted: {name}": adopt(shape) for name, shape in SHAPES.items()},
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_every_way_ends_in_what_the_file_says(
    make: Callable[[Session], None],
    as_made: Callable[[Callable[[Session], None]], Described],
    request: pytest.FixtureRequest,
) -> None:
    expected, found = as_made(make_as_the_file_says), as_made(make)
    if "adopted" in request.node.name:
        expected, found = map(without_what_is_kept, (expected, found))
    for what, rows in expected.items():
        assert found[what] == rows, what
    assert len(expected["tables"]) == len(table_names("jobs")) + 1
    assert expected["routines"]


@pytest.mark.parametrize(
    ("text", "comment"),
    [
        ("celery-mysqllock schema 8", TableComment(Version(8))),
        ("celery-mysqllock schema 8 namespace=shop", TableComment(Version(8), "shop")),
        ("celery-mysqllock schema 8 revision=1", TableComment(Version(8, 1))),
        (
            "celery-mysqllock schema 8 namespace=a:b revision=12",
            TableComment(Version(8, 12), "a:b"),
        ),
    ],
)
def test_a_comment_is_read_as_it_is_written(text: str, comment: TableComment) -> None:
    assert TableComment.parse(text) == comment
    assert str(comment) == text


def test_the_comment_of_another_table_says_nothing() -> None:
    assert TableComment.parse("ask Ada") is None


def test_a_definition_knows_what_a_table_lacks() -> None:
    statement = "CREATE TABLE `t` (\n    a INT\n      COMMENT 'it''s 1, (2)',\n    KEY a (a)\n) X"
    definition = TableDefinition.of("t", statement)
    assert definition.columns == {"a": "a INT COMMENT 'it''s 1, (2)'"}
    assert list(definition.changes({"a": "it's 1, (2)"}, {"a"})) == []
    assert list(definition.changes({"a": "old"}, [])) == [
        "ALTER TABLE `t`\n    MODIFY a INT COMMENT 'it''s 1, (2)',\n    LOCK = NONE",
        "ALTER TABLE `t`\n    ADD KEY a (a),\n    LOCK = NONE",
    ]
    assert "ADD a INT" in next(definition.changes({"b": ""}, ["a"]))
