"""The versions of the schema, and what a table lacks of the definitions in schema.sql."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from typing import Self

#: The columns of the original table, which keep the types that they have in an adopted one.
ORIGINAL = ("id", "message", "job_status")

_COMMENT = re.compile(
    r"celery-mysqllock schema (?P<schema>\d+)(?: namespace=(?P<namespace>\S+))?"
    r"(?: revision=(?P<revision>\d+))?"
)
# What begins a line of a CREATE TABLE with an indentation of four: a column or a key.
_ITEM = re.compile(r"^ {4}(?=\S)", re.MULTILINE)
_KEY = re.compile(r"(?:UNIQUE )?KEY (\w+)")
_ENDS_WITH_COMMENT = re.compile(r"COMMENT '((?:[^']|'')*)'$")


class Version(NamedTuple):
    """The version of a schema, written ``8.1``.

    Attributes:
        schema: A program that does not know this number refuses the table.
        revision: Counts additions, which a program need not know.
    """

    schema: int
    revision: int = 0

    def __str__(self) -> str:
        return f"{self.schema}.{self.revision}"


#: What ``migrate`` makes.
NEWEST = Version(8, 1)
#: The oldest version that this release works with, which is that of the release before.
OLDEST = Version(8, 0)
#: A table whose creation or adoption has begun.
UNFINISHED = Version(1)


@dataclass(frozen=True)
class TableComment:
    """The comment of a job table.

    Attributes:
        version: The version of its schema.
        namespace: The namespace of its programs; empty where that is the name of the database.
    """

    version: Version
    namespace: str = ""

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read a comment; None when it is none of ours."""
        found = _COMMENT.search(text)
        if found is None:
            return None
        version = Version(int(found["schema"]), int(found["revision"] or 0))
        return cls(version, found["namespace"] or "")

    def __str__(self) -> str:
        # The release before reads the schema and, right behind it, the namespace.
        namespace = f" namespace={self.namespace}" if self.namespace else ""
        revision = f" revision={self.version.revision}" if self.version.revision else ""
        return f"celery-mysqllock schema {self.version.schema}{namespace}{revision}"


@dataclass(frozen=True)
class TableDefinition:
    """What a CREATE TABLE says, in which each column and key begins a line.

    Attributes:
        name: The table's name.
        columns: The definitions of the columns, by name.
        keys: The definitions of the keys but the primary one, by name.
    """

    name: str
    columns: Mapping[str, str]
    keys: Mapping[str, str]

    @classmethod
    def of(cls, name: str, statement: str) -> Self:
        """Read the statement that makes the table of that name."""
        columns, keys = {}, {}
        body = statement[statement.index("(\n") + 2 : statement.rindex("\n)")]
        for item in _ITEM.split(body)[1:]:
            definition = " ".join(item.split()).rstrip(",")
            if key := _KEY.match(definition):
                keys[key[1]] = definition
            elif not definition.startswith("PRIMARY KEY"):
                columns[definition.partition(" ")[0]] = definition
        return cls(name, columns, keys)

    def changes(self, columns: Mapping[str, str], keys: Collection[str]) -> Iterator[str]:
        """The statements that bring an older table to this definition.

        Args:
            columns: The comment of each column that the table has.
            keys: The names of the keys that it has.
        """
        yield from self._alter(
            f"{'MODIFY' if name in columns else 'ADD'} {definition}"
            for name, definition in self.columns.items()
            if name not in columns or self._has_other_comment(name, columns[name])
        )
        yield from self._alter(f"ADD {key}" for name, key in self.keys.items() if name not in keys)

    def _has_other_comment(self, column: str, comment: str) -> bool:
        own = _ENDS_WITH_COMMENT.search(self.columns[column])
        return column not in ORIGINAL and own is not None and own[1].replace("''", "'") != comment

    def _alter(self, changes: Iterator[str]) -> Iterator[str]:
        if some := list(changes):
            # LOCK=NONE: reads and writes go on, or the server refuses
            lines = ",\n    ".join([*some, "LOCK = NONE"])
            yield f"ALTER TABLE `{self.name}`\n    {lines}"


def publish_procedure(table: str) -> str:
    """The name of the procedure that stores jobs in that table."""
    return "mysqllock_publish" if table == "jobs" else f"mysqllock_publish_{table}"
