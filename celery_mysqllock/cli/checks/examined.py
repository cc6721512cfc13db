"""The server that is looked at, and what it is there for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from celery_mysqllock.mysql import Session


@dataclass(frozen=True)
class Examined:
    """One server, through one session.

    Attributes:
        session: An open session with it.
        table: The job table's name, None when only locks are kept there.
        creates_table: Whether a missing job table is made on first use.
        allow_multi_primary: Whether the user has said that one of several primaries will do.
        variables: The server's global variables.
        status: Its status counters.
        role: What the user is there for, one of ``roles.ROLES``.
    """

    session: Session
    table: str | None
    creates_table: bool
    allow_multi_primary: bool
    variables: dict[str, str]
    status: dict[str, str]
    role: str = "worker"

    def number(self, variable: str) -> float | None:
        """A variable that is a number, None when this server does not have it."""
        value = self.variables.get(variable)
        try:
            return None if value is None else float(value)
        except ValueError:
            return None

    def is_on(self, variable: str) -> bool:
        """Whether a variable is on; one that this server does not have is off."""
        return self.variables.get(variable, "OFF").upper() in ("ON", "1", "YES")

    def shown(self, *variables: str) -> str:
        """Variables and their values, of those that this server has."""
        return ", ".join(
            f"{name}={self.variables[name]}" for name in variables if name in self.variables
        )
