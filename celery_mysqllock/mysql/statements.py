"""The text of statements: named SQL blocks from .sql files, and values that any server stores."""

from __future__ import annotations

import re
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_BLOCK = re.compile(r"^-- (?P<kind>name|fragment): (?P<name>\w+)$", re.MULTILINE)
_COMMENT = re.compile(r"^--.*\n?", re.MULTILINE)


class Statements:
    """The blocks of one .sql file, by name.

    A block is a line ``-- name: <name>``, comments that describe it, and the statement, with values
    as ``%(name)s`` and identifiers as ``{name}``. Text that several statements share is a block
    that begins with ``-- fragment: <name>`` and that they contain as ``{name}``. A file is read
    once.

    Args:
        package: The package that contains the file.
        file: The file's name.
        database: The database that the identifiers belong to, None for the session's.
        identifiers: The identifier for each ``{name}``, checked by ``settings.check_identifier``.
    """

    def __init__(
        self, package: str, file: str, database: str | None = None, **identifiers: str
    ) -> None:
        self._blocks = _read(package, file, database, tuple(identifiers.items()))

    def __getitem__(self, name: str) -> str:
        return self._blocks[name]

    def __iter__(self) -> Iterator[str]:
        """The names of the blocks, in the order of the file."""
        return iter(self._blocks)


@lru_cache(maxsize=64)
def _read(
    package: str, file: str, database: str | None, identifiers: tuple[tuple[str, str], ...]
) -> dict[str, str]:
    text = resources.files(package).joinpath(file).read_text("utf-8")
    # a database may have any name, and a driver takes % for a parameter
    within = "" if database is None else f"`{database.replace('`', '``').replace('%', '%%')}`."
    for name, identifier in identifiers:
        text = text.replace(f"{{{name}}}", f"{within}`{identifier}`")
    pieces = _BLOCK.split(text)[1:]
    names = pieces[1::3]
    if len(set(names)) < len(names):
        raise ValueError(f"{file} has two blocks of one name.")
    blocks = [_COMMENT.sub("", block).strip().rstrip(";") for block in pieces[2::3]]
    for at, (kind, name) in enumerate(zip(pieces[::3], names, strict=True)):
        if kind == "fragment":
            blocks = [block.replace(f"{{{name}}}", blocks[at]) for block in blocks]
    return dict(zip(names, blocks, strict=True))


def storable(text: str) -> str:
    """Return the text with lone surrogates escaped.

    A program's arguments need not be UTF-8: Python keeps other bytes as surrogates, which no server
    stores.
    """
    return text.encode("utf-8", "backslashreplace").decode()
