"""Transactional enqueue: jobs that exist if and only if the caller's own transaction commits."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from celery import current_task

from celery_mysqllock.exceptions import TransactionError
from celery_mysqllock.mysql.borrowed import Borrowed, borrow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_mysqllock.broker.message import Payload
    from celery_mysqllock.broker.sessions import Sessions
    from celery_mysqllock.jobs import EnlistedJobs

_current: ContextVar[Transaction | None] = ContextVar("celery_mysqllock.transaction", default=None)


@contextmanager
def transaction(connection: Any) -> Iterator[Any]:  # noqa: ANN401 - of many kinds
    """Write the jobs that are sent in the block into a transaction of your own connection.

    Each ``delay()``, ``apply_async()``, ``group``, ``chain`` and ``chord`` in the block is an
    INSERT on that connection. The job exists if and only if your transaction commits; its task id
    is there at once. An idle worker is woken after the commit. The connection has to be on the
    broker's server; it may use another database there.

    Who commits? With PyMySQL and mysqlclient the block is the transaction: it commits at its end,
    with what the connection had open before, and rolls back when an exception leaves it. Autocommit
    is off in the block. A block inside of another on the same connection is a savepoint.

    With SQLAlchemy's Session and Connection you do, as ever, and with Django ``atomic()`` or
    ``ATOMIC_REQUESTS`` does; the block ends nothing.

    Not a part of the transaction, and sent at once: remote control, events, and ``self.retry()``,
    whose exception would roll it back.

    Args:
        connection: A connection of PyMySQL or mysqlclient; a Session, scoped_session or Connection
            of SQLAlchemy 2; ``django.db.connection`` or one of ``django.db.connections``.

    Returns:
        A context manager, which gives the connection; also a decorator.

    Raises:
        TransactionError: The connection is none of these. In the block, from ``delay()``: it is in
            no transaction, or on another server than the broker's. Nothing was stored then. An
            error of your driver or framework comes as it is.
    """
    own = Transaction(borrow(connection))
    token = _current.set(own)
    try:
        with own.borrowed.block():
            yield connection
    finally:
        own.is_over = True
        _current.reset(token)


def transaction_for(message: Payload, queues: list[str]) -> Transaction | None:
    """The transaction that the message is to be a part of, None for none.

    Args:
        message: The message.
        queues: The queues in which it becomes a job.

    Raises:
        TransactionError: It cannot be.
    """
    current = _current.get()
    if current is None or current.is_over or not queues:
        return None
    if _continues_the_running_task(message):
        return None
    current.check_thread()
    return current


class Transaction:
    """One block of ``transaction``.

    Args:
        borrowed: The caller's connection.

    Attributes:
        borrowed: The same.
        is_over: Whether the block has been left; a copied context may still hold it.
    """

    def __init__(self, borrowed: Borrowed) -> None:
        self.borrowed = borrowed
        self.is_over = False
        self._thread = threading.get_ident()
        self._jobs: dict[Sessions, EnlistedJobs] = {}

    def jobs(self, sessions: Sessions) -> EnlistedJobs:
        """The job table of that broker connection, inside of this transaction."""
        if sessions not in self._jobs:
            self._jobs[sessions] = sessions.enlist(self.borrowed)
        return self._jobs[sessions]

    def check_thread(self) -> None:
        """Do nothing in the thread of the block.

        Raises:
            TransactionError: This is another thread or greenlet, to which the context was copied.
        """
        if threading.get_ident() != self._thread:
            raise TransactionError(
                "The transaction is another thread's, and so is its connection. Send the task in "
                "the thread of the block, or run this one in a context of its own."
            )


def _continues_the_running_task(message: Payload) -> bool:
    """Whether this is a retry or replacement of the task that runs here.

    Celery sends it and then raises Retry or Ignore, which leaves the block as an exception.
    """
    task_id = message["headers"].get("id")
    return bool(task_id and current_task and current_task.request.id == task_id)
