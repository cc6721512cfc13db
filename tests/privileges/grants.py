"""The users of the page on privileges: what the page grants is what these tests try."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tests.docs.page import blocks

if TYPE_CHECKING:
    from celery_mysqllock.mysql import Address, Session

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "privileges.md"
_USER = re.compile(r"CREATE USER '(\w+)'@'%'")


def roles() -> dict[str, list[str]]:
    """For each role of the page, the statements that make its user."""
    return {user[1]: own for own in _statements() if (user := _USER.search(own[0]))}


def more(role: str) -> list[str]:
    """What the page grants a role for more than its part."""
    return [
        statement
        for own in _statements()
        for statement in own
        if not _USER.search(own[0])
        and statement.startswith("GRANT")
        and f"TO '{role}'@" in statement
    ]


def _statements() -> list[list[str]]:
    found = []
    for block in blocks(PAGE):
        if block.language == "sql":
            statements = re.split(r";\s*$", block.text, flags=re.MULTILINE)
            found.append([statement.strip() for statement in statements if statement.strip()])
    return found


class Users:
    """Users with the privileges of a role each, on the database of a session.

    Args:
        session: A session of somebody who may make users.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._made: list[str] = []

    def make(self, role: str, known_as: str | None = None) -> Address:
        """Make a user of the role, known as the role itself; a login to the session's database."""
        address = self._session.address
        name = self._name(known_as or role)
        self._made.append(name)
        self._grant(role, name, roles()[role])
        return replace(address, user=name, password="password")  # noqa: S106 - as on the page

    def grant_more(self, role: str) -> None:
        """Give that user what the page grants it for more than its part."""
        self._grant(role, self._name(role), more(role))

    def _name(self, role: str) -> str:
        # of this database alone: other tests on the server may have one of the role
        return f"{role}_{self._session.address.database[-8:]}"

    def _grant(self, role: str, name: str, statements: list[str]) -> None:
        for statement in statements:
            self._session.execute(statement.replace(f"'{role}'@", f"'{name}'@"))

    def drop(self) -> None:
        """They go."""
        for name in self._made:
            self._session.execute("DROP USER IF EXISTS %s@'%%'", (name,))
