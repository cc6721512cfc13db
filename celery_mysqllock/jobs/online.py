"""Changes to a table that programs use meanwhile: in short turns, and again until one succeeds."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from celery_mysqllock.exceptions import AlreadyDone, TransientError
from celery_mysqllock.jobs.retry import retried

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_mysqllock.mysql import Session, Statements

# Seconds that an ALTER TABLE waits for open transactions: all other programs wait behind it. An
# idle consumer's statement on the table takes ten.
_PATIENCE = 15
_ATTEMPTS, _PAUSE = 5, 5.0
# Seconds that a statement may take: an index of a great table takes minutes.
_LONGEST = 86_400.0
# Rows that one statement changes, and locks for some hundredths of a second.
_PART = 2000


@dataclass(frozen=True)
class Step:
    """One step of a migration.

    Attributes:
        name: What it does, such as ``create`` or ``upgrade``.
        statements: Its statements.
        notice: What the user should know before, empty for nothing.
    """

    name: str
    statements: tuple[str, ...]
    notice: str = ""

    @property
    def sql(self) -> str:
        """The statements, to be shown."""
        return "\n\n".join(f"{statement};" for statement in self.statements)


@contextmanager
def changing(session: Session) -> Iterator[None]:
    """Let the block's statements take a day, but wait for open transactions no longer than 15 s."""
    with session.extend_timeout(_LONGEST):
        session.execute("SET SESSION lock_wait_timeout = %s", (_PATIENCE,))
        yield


def execute(session: Session, sql: Statements, statement: str, table: str) -> None:
    """Run a statement, up to five times while other transactions keep it from the table.

    One that changes the rows with ids from ``%(first)s`` to ``%(last)s`` runs part by part, so that
    no row is locked for long. It may have been done before, by a run that was killed.

    Args:
        session: An open session.
        sql: The statements of migrate.sql.
        statement: The statement.
        table: The job table's name.

    Raises:
        TransientError: The table was in use each time, for longer than a minute.
    """
    for left in reversed(range(_ATTEMPTS)):
        try:
            if "%(first)s" in statement:
                _in_parts(session, sql, statement)
            else:
                session.execute(statement)
        except AlreadyDone:
            return
        except TransientError as error:
            if left:
                time.sleep(_PAUSE)
                continue
            raise TransientError(
                f"The table {table} was never free for a moment: a transaction that has used it "
                "stays open. End that one, and migrate again: it goes on where this stopped. "
                f"({error})"
            ) from error
        else:
            return


def _in_parts(session: Session, sql: Statements, statement: str) -> None:
    ((first, end),) = session.query(sql["ids"])
    while first is not None and first <= end:
        last = session.value(sql["end_of_part"], {"first": first, "limit": _PART})
        if last is None:
            return
        retried(partial(session.execute, statement, {"first": first, "last": last}))
        first = last + 1
