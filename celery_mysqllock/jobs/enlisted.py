"""The job table inside a transaction of somebody else's connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery_mysqllock.jobs.table import JobTable
from celery_mysqllock.mysql.borrowed.session import BorrowedSession

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_mysqllock.mysql import Session
    from celery_mysqllock.mysql.borrowed import Borrowed


class EnlistedJobs(JobTable):
    """Puts jobs into the table that exist if and only if a borrowed transaction commits.

    Args:
        borrowed: The connection whose transaction that is.
        own: An open session of ours on the job table's server and database.
        table: The table's name.
        namespace: The first part of the names of the bells.
        ring: Called after each commit with the queues that have got jobs, and with None among
            them when one is scheduled.
    """

    _is_enlisted = True

    def __init__(
        self,
        borrowed: Borrowed,
        own: Session,
        table: str,
        *,
        namespace: str,
        ring: Callable[[set[str | None]], None],
    ) -> None:
        super().__init__(
            BorrowedSession(borrowed, own),
            table,
            namespace=namespace,
            # the borrowed connection may use another database of the server
            database=own.address.database,
        )
        self._borrowed = borrowed
        self._own = own
        self._ring_for = ring
        self._not_rung: set[str | None] = set()

    def put(self, queue: str, message: str, **options: Any) -> int:  # noqa: ANN401 - as in JobTable
        """Store a message as a job when the transaction commits, and ring after that.

        Args:
            queue: The queue's name.
            message: The text.
            options: As in ``JobTable``.

        Returns:
            The job's id.

        Raises:
            TransactionError: The connection is in no transaction, or on another server.
            MessageTooLarge: The server would not read so much; the transaction goes on.
            JobExists: As in ``JobTable``; the transaction goes on.
        """
        self._borrowed.check()
        self._borrowed.check_server(self._own)
        self._not_rung.add(queue if options.get("delay") is None else None)
        self._borrowed.after_commit(self._on_commit)
        return super().put(queue, message, **options)

    def _on_commit(self) -> None:
        bells, self._not_rung = self._not_rung, set()
        if bells:
            self._ring_for(bells)
