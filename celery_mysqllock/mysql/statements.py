"""SQL kept in .sql files as named, described blocks, and read once."""

from __future__ import annotations

import re
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
        identifiers: What stands for each ``{name}``; ``settings.check_identifier`` has seen it.
    """

    def __init__(self, package: str, file: str, **identifiers: str) -> None:
        text = resources.files(package).joinpath(file).read_text("utf-8")
        for name, identifier in identifiers.items():
            text = text.replace(f"{{{name}}}", f"`{identifier}`")
        pieces = _BLOCK.split(text)[1:]
        self._blocks = {
            name: _COMMENT.sub("", block).strip().rstrip(";")
            for name, block in zip(pieces[::2], pieces[1::2], strict=True)
        }

    def __getitem__(self, name: str) -> str:
        return self._blocks[name]
