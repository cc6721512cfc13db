"""Runs a statement again when the server rolled it back for the sake of another transaction."""

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
#: Seconds after which a statement that waits for another transaction's locks is given up.
PATIENCE = 10.0
#: How often a server that cannot leave out locked rows is waited for in one go.
MOST_WAITS = 4
_is_hasty = ContextVar("is_hasty", default=False)
_HOW_TO_FIND = (
    "SELECT trx_started, trx_mysql_thread_id, trx_query FROM information_schema.INNODB_TRX "
    "ORDER BY trx_started shows open transactions, the oldest first; an ALTER TABLE or LOCK TABLES "
    "is in SHOW PROCESSLIST."
)


@contextmanager
def hasty() -> Iterator[None]:
    """Let the block's statements wait for locks once: what is left undone is tried later."""
    token = _is_hasty.set(True)
    try:
        yield
    finally:
        _is_hasty.reset(token)


def retried(statement: Callable[[], T], table: str | None = None, patience: float = PATIENCE) -> T:
    """Run the statement again, up to ten times, while it ends in a deadlock or a lock wait's end.

    Args:
        statement: Runs it.
        table: The table that the error names.
        patience: Seconds after which locks are no longer waited for.

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
            # At once, the same transactions would meet again.
            time.sleep(random.uniform(0, _PAUSE * 2 ** (_ATTEMPTS - 1 - left)))  # noqa: S311
    raise AssertionError("every attempt returns or raises")


def explained(error: RowsLocked, waited: float, table: str | None = None) -> RowsLocked:
    """The error, with how long it waited and how to find the transaction that holds the lock."""
    where = "" if table is None else f" in the table {table}"
    return RowsLocked(
        f"Nothing was changed{where}: for {waited:.0f} s another session has kept locked what this "
        f"needs. {_HOW_TO_FIND} Let it end, or KILL it, and try again. ({error})"
    )
