"""Sends a statement again that the server rolled back for somebody else's sake."""

from __future__ import annotations

import random
import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeVar

from celery_mysqllock.exceptions import RowsLocked, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    T = TypeVar("T")

_ATTEMPTS = 10
_PAUSE = 0.001  # seconds at most after the first deadlock; twice as long after each further one
#: Seconds after which a statement that waits for somebody else's locks is given up.
PATIENCE = 10.0
_is_hasty = ContextVar("is_hasty", default=False)
_HOW_TO_FIND = (
    "SELECT trx_started, trx_mysql_thread_id, trx_query FROM information_schema.INNODB_TRX "
    "ORDER BY trx_started shows open transactions, the oldest first; an ALTER TABLE or LOCK TABLES "
    "is in SHOW PROCESSLIST."
)


@contextmanager
def hasty() -> Iterator[None]:
    """Have the block's statements wait for locks once: what is left undone is tried later."""
    token = _is_hasty.set(True)
    try:
        yield
    finally:
        _is_hasty.reset(token)


def retried(statement: Callable[[], T], table: str | None = None, patience: float = PATIENCE) -> T:
    """Run the statement again, up to ten times, while it ends in a deadlock or a lock wait's end.

    Args:
        statement: Runs it.
        table: The table that it works on, where the error is to name it.
        patience: Seconds after which no lock is waited for any more.

    Raises:
        RowsLocked: It has waited for so long.
        TransientError: It was rolled back every time.
    """
    if _is_hasty.get():
        patience = 0.0
    began = time.monotonic()
    for left in reversed(range(_ATTEMPTS)):
        try:
            return statement()
        except RowsLocked as error:
            waited = time.monotonic() - began
            if not left or waited >= patience:
                raise explained(error, waited, table) from error
        except TransientError:
            if not left:
                raise
            # Those who have met would meet again at once.
            time.sleep(random.uniform(0, _PAUSE * 2 ** (_ATTEMPTS - 1 - left)))  # noqa: S311
    raise AssertionError("every attempt returns or raises")


def explained(error: RowsLocked, waited: float, table: str | None = None) -> RowsLocked:
    """The error with what was waited for, for how long, and how to find who keeps it locked."""
    where = "" if table is None else f" in the table {table}"
    return RowsLocked(
        f"Nothing was changed{where}: for {waited:.0f} s somebody else has kept locked what this "
        f"needs. {_HOW_TO_FIND} Let it end, or KILL it, and try again. ({error})"
    )
