"""The job table inside a transaction of somebody else's connection."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from celery_mysqllock.exceptions import DatabaseError
from celery_mysqllock.jobs.table import JobTable
from celery_mysqllock.jobs.unique import UniqueJobs
from celery_mysqllock.mysql.borrowed.session import BorrowedSession

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from celery_mysqllock.jobs.lines import OrderKey
    from celery_mysqllock.jobs.lock_names import LockNames
    from celery_mysqllock.jobs.unique import UniqueKey
    from celery_mysqllock.mysql import Inserted, Session
    from celery_mysqllock.mysql.borrowed import Borrowed


@dataclass
class News:
    """What a transaction has written that nobody is told of before the commit.

    Attributes:
        queues: The queues that have got jobs.
        order_keys: The order keys of jobs that wait in their line, each as often as there are such.
        is_scheduled: Whether a job is due later.
    """

    queues: set[str] = field(default_factory=set)
    order_keys: list[str] = field(default_factory=list)
    is_scheduled: bool = False

    def add(
        self, queue: str, *, delay: float | None = None, order: OrderKey | None = None, **_: object
    ) -> None:
        """Take note of a job, with the arguments of ``JobTable.put``."""
        if delay is not None:
            self.is_scheduled = True
        elif order is not None:
            self.order_keys.append(order.text)
        else:
            self.queues.add(queue)

    def tell(self, jobs: JobTable) -> None:
        """Wake whom it concerns, and let those in line go whose turn it is."""
        jobs.ring_each(self.queues)
        if self.is_scheduled:
            jobs.ring_sweeper()
        jobs.admit(self.order_keys)


class EnlistedJobs(JobTable):
    """Puts jobs into the table that exist if and only if a borrowed transaction commits.

    Args:
        borrowed: The connection whose transaction that is.
        own: An open session of ours on the job table's server and database.
        table: The table's name.
        names: The names of the table's locks.
        on_commit: Called after each commit with what is to be told then.
    """

    def __init__(
        self,
        borrowed: Borrowed,
        own: Session,
        table: str,
        *,
        names: LockNames,
        on_commit: Callable[[News], None],
    ) -> None:
        super().__init__(
            BorrowedSession(borrowed, own),
            table,
            names=names,
            # the borrowed connection may use another database of the server
            database=own.address.database,
        )
        self._borrowed = borrowed
        self._own = own
        self._tell = on_commit
        self._news = News()

    def put(self, queue: str, message: str, **options: Any) -> int:  # noqa: ANN401 - as in JobTable
        """Store a message as a job when the transaction commits, and ring after that.

        Args:
            queue: The queue's name.
            message: The text.
            options: As in ``JobTable``.

        Returns:
            The job's id.

        Raises:
            TransactionError: The connection is in no transaction, on another server, or has rows
                that are not read yet.
            MessageTooLarge: The server would not read so much; the transaction goes on.
            JobExists: As in ``JobTable``; the transaction goes on.
        """
        self._borrowed.check()
        with self._borrowed.keeping_insert_id():
            self._borrowed.check_server(self._own)
            self._borrowed.after_commit(self._on_commit)
            stored = self._store_one(queue, message, **options)
        self._news.add(queue, **options)
        return stored.row_id

    def _store_one(self, queue: str, message: str, **options: Any) -> Inserted:  # noqa: ANN401 - as above
        statement, values = self._insert(queue, message, **options)
        unique: UniqueKey | None = options.get("unique")
        if unique is None:
            stored = self._session.insert(self._sql[statement], values)
        else:
            jobs = UniqueJobs(self._session, self._sql, looks_first=True)
            stored = jobs.insert(statement, values, must_store=unique.must_store)
        if stored.rows != 1:
            raise DatabaseError(f"The INSERT stored no row [{self._session.address}].")
        return stored

    def put_each(self, queues: Mapping[str, float | None], message: str, **options: Any) -> None:  # noqa: ANN401 - as in JobTable
        """As ``put``, a job in each of the queues."""
        for queue, lifetime in queues.items():
            self.put(queue, message, lifetime=lifetime, **options)
            options["unique"] = None

    def _on_commit(self) -> None:
        news, self._news = self._news, News()
        if news != News():
            self._tell(news)
