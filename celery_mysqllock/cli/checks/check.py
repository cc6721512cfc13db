"""What a check gets, a target, and what it yields, findings."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from celery_mysqllock.mysql import Statements

if TYPE_CHECKING:
    from celery_mysqllock.mysql import Session

#: The SQL of all checks.
STATEMENTS = Statements("celery_mysqllock.cli.checks", "checks.sql")


@dataclass(frozen=True)
class Target:
    """The server to check, through one session.

    Attributes:
        session: An open session with it.
        table: The job table's name, None if the server only has locks.
        creates_table: Whether a missing job table is created on first use.
        allow_multi_primary: Whether the user accepts one of several primaries.
        variables: The server's global variables.
        status: Its status counters.
        role: The role of the user that logs in, one of ``roles.ROLES``.
    """

    session: Session
    table: str | None
    creates_table: bool
    allow_multi_primary: bool
    variables: dict[str, str]
    status: dict[str, str]
    role: str = "worker"

    def number(self, variable: str) -> float | None:
        """The value of a numeric variable, None if this server does not have it."""
        value = self.variables.get(variable)
        try:
            return None if value is None else float(value)
        except ValueError:
            return None

    def is_on(self, variable: str) -> bool:
        """Whether a variable is on; off if this server does not have it."""
        return self.variables.get(variable, "OFF").upper() in ("ON", "1", "YES")

    def shown(self, *variables: str) -> str:
        """Those of the variables that this server has, with their values."""
        return ", ".join(
            f"{name}={self.variables[name]}" for name in variables if name in self.variables
        )


class Level(Enum):
    """How serious a finding is."""

    OK = "ok"
    WARNING = "warning"  #: it works, with surprises
    PROBLEM = "problem"  #: something will fail


@dataclass(frozen=True)
class Finding:
    """The result of a check.

    Attributes:
        subject: What was checked, in one or two words.
        level: How serious it is.
        text: What was found, and its effect.
        advice: What to do; empty if there is nothing to do.
    """

    subject: str
    level: Level
    text: str
    advice: str = ""


def ok(subject: str, text: str, advice: str = "") -> Finding:
    """Nothing has to be done; the advice says how to get more."""
    return Finding(subject, Level.OK, text, advice)


def warning(subject: str, text: str, advice: str) -> Finding:
    """It works, with surprises."""
    return Finding(subject, Level.WARNING, text, advice)


def problem(subject: str, text: str, advice: str) -> Finding:
    """Something will fail."""
    return Finding(subject, Level.PROBLEM, text, advice)
