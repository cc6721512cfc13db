"""A program that sends tasks in transactions: ``python -m tests.broker.enqueue KIND OUTCOME...``.

Each transaction writes an order and sends a task, both named after the outcome that it has.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from celery import Celery

import celery_mysqllock
from celery_mysqllock.broker.sessions import Sessions
from celery_mysqllock.exceptions import TransactionError
from tests.broker.app import URL, note, once
from tests.broker.callers import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.broker.callers import Caller

#: What may become of a transaction, and whether its order and its job are there then.
OUTCOMES = {
    "commit": True,
    "exception after the INSERT": False,
    "exception before the INSERT": False,
    "killed before the INSERT": False,
    "killed after the INSERT": False,
    "killed after the COMMIT": True,
    "refused, as the task has another broker": False,
    "refused, as rows are not read yet": False,
    "exception in an async def": False,
}
#: One more thing to do: a unique task, twice, and another one.
UNIQUE = "unique"


class OutOfStockError(Exception):
    """What a program raises in its transaction."""


def die(*_: object) -> None:
    """End as a host does that loses its power."""
    os.kill(os.getpid(), signal.SIGKILL)


def bring_about(outcome: str, caller: Caller) -> None:
    """Do one transaction that ends so."""
    if outcome in _REFUSED:
        bring_about_refusal(outcome, caller)
        return
    how, _, when = outcome.partition(" ")
    fail: Callable[[], None] = die if how == "killed" else _raise
    if when == "after the COMMIT":
        Sessions._announce = die  # type: ignore[assignment,method-assign] # noqa: SLF001
    with suppress(OutOfStockError), caller.transaction():
        caller.order(outcome)
        if when == "before the INSERT":
            fail()
        task_id = note.delay(outcome).id
        assert task_id
        if when == "after the INSERT":
            fail()


def bring_about_refusal(outcome: str, caller: Caller) -> None:
    """Do one transaction that is left with an error after its INSERT."""
    with suppress(OutOfStockError, TransactionError), caller.transaction():
        caller.order(outcome)
        note.delay(outcome)
        _REFUSED[outcome](caller)
        # not rolled back: the table would show it
        note.delay(outcome)


def _send_elsewhere(_: Caller) -> None:
    other = Celery("elsewhere", broker="memory://", set_as_current=False)
    other.send_task("ship")


def _fail_in_async(caller: Caller) -> None:
    @celery_mysqllock.transaction(caller.connection)
    async def fail() -> None:
        await asyncio.sleep(0)
        raise OutOfStockError

    asyncio.run(fail())


_REFUSED: dict[str, Callable[[Caller], None]] = {
    "refused, as the task has another broker": _send_elsewhere,
    "refused, as rows are not read yet": lambda caller: caller.leave_rows_unread(),
    "exception in an async def": _fail_in_async,
}


def send_unique(caller: Caller) -> None:
    """Send a unique task twice in a transaction, and another task after it."""
    with caller.transaction():
        ids = {once.delay(UNIQUE).id for _ in range(2)}
        assert len(ids) == 1
        note.delay("another")


def _raise() -> None:
    raise OutOfStockError


if __name__ == "__main__":
    program = KINDS[sys.argv[1]](URL)
    for wanted in sys.argv[2:]:
        if wanted == UNIQUE:
            send_unique(program)
        else:
            bring_about(wanted, program)
