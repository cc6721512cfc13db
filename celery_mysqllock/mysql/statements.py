"""SQL kept in .sql files as named, described blocks, and read once."""

from __future__ import annotations

import re
from functools import lru_cache
from importlib import resources

_BLOCK = re.compile(r"^-- name: (?P<name>\w+)$", re.MULTILINE)
_COMMENT = re.compile(r"^--.*\n?", re.MULTILINE)


class Statements:
    """The blocks of one .sql file, by name.

    A block begins with ``-- name: <name>``, then comments that say what it does, then the
    statement, with values as ``%(name)s`` parameters and identifiers as ``{name}``.

    Args:
        package: The package in which the file lies.
        file: The file's name.
        database: The database of all that the identifiers name, None for the session's own.
        identifiers: What stands for each ``{name}``; ``settings.check_identifier`` has seen it.
    """

    def __init__(
        self, package: str, file: str, database: str | None = None, **identifiers: str
    ) -> None:
        self._blocks = _read(package, file, database, tuple(identifiers.items()))

    def __getitem__(self, name: str) -> str:
        return self._blocks[name]


@lru_cache(maxsize=64)
def _read(
    package: str, file: str, database: str | None, identifiers: tuple[tuple[str, str], ...]
) -> dict[str, str]:
    text = resources.files(package).joinpath(file).read_text("utf-8")
    # a database may have any name, and the drivers see a format in the statement
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
