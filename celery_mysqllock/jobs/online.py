"""Changes to a table that programs use meanwhile: in short turns, and again until one succeeds."""

from __future__ import annotations

import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from celery_mysqllock.exceptions import AlreadyDone, TransientError
from celery_mysqllock.jobs.retry import retried

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery_mysqllock.mysql import Session, Statements

# Seconds that an ALTER TABLE waits for open transactions: all other programs wait behind it. An
# idle consumer's statement on the table takes ten.
_PATIENCE = 15
_ATTEMPTS, _PAUSE = 5, 5.0
# Seconds that a statement may take: an index of a great table takes minutes.
_LONGEST = 86_400.0
# Rows that one statement changes, and locks for some hundredths of a second.
_PART = 2000


@contextmanager
def changing(session: Session) -> Iterator[None]:
    """Let the block's statements take a day, but wait for open transactions no longer than 15 s."""
    with session.extend_timeout(_LONGEST):
        session.execute("SET SESSION lock_wait_timeout = %s", (_PATIENCE,))
        yield


def in_parts(session: Session, sql: Statements, statement: str) -> None:
    """Run a statement on the job table's rows part by part, so that no row is locked for long.

    Args:
        session: An open session.
        sql: The statements of migrate.sql.
        statement: A change of the rows with ids from ``%(first)s`` to ``%(last)s``.
    """
    ((first, end),) = session.query(sql["ids"])
    while first is not None and first <= end:
        last = session.value(sql["end_of_part"], {"first": first, "limit": _PART})
        if last is None:
            return
        retried(partial(session.execute, statement, {"first": first, "last": last}))
        first = last + 1


def persist(statement: Callable[[], object], table: str) -> None:
    """Run a statement, up to five times while other transactions keep it from the table.

    It may have been done before, by a run that was killed.

    Raises:
        TransientError: The table was in use each time, for longer than a minute.
    """
    for left in reversed(range(_ATTEMPTS)):
        try:
            statement()
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
