"""The text of statements: named SQL blocks from .sql files, and values that any server stores."""

from __future__ import annotations

import re
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_BLOCK = re.compile(r"^-- name: (?P<name>\w+)$", re.MULTILINE)
_COMMENT = re.compile(r"^--.*\n?", re.MULTILINE)


class Statements:
    """The blocks of one .sql file, by name.

    A block is a line ``-- name: <name>``, comments that describe it, and the statement, with values
    as ``%(name)s`` and identifiers as ``{name}``. A file is read once.

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
    if len(set(pieces[::2])) < len(pieces[::2]):
        raise ValueError(f"{file} has two blocks of one name.")
    return {
        name: _COMMENT.sub("", block).strip().rstrip(";")
        for name, block in zip(pieces[::2], pieces[1::2], strict=True)
    }


def storable(text: str) -> str:
    """Return the text with lone surrogates escaped.

    A program's arguments need not be UTF-8: Python keeps other bytes as surrogates, which no server
    stores.
    """
    return text.encode("utf-8", "backslashreplace").decode()
