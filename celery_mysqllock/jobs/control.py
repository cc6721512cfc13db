"""What an operator does with jobs and queues: retry, discard, move, pause, purge, delete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery_mysqllock.exceptions import SettingsError
from celery_mysqllock.jobs.ephemeral import table_names
from celery_mysqllock.jobs.job import check_queue_name
from celery_mysqllock.jobs.retry import retried
from celery_mysqllock.jobs.table import JobTable
from celery_mysqllock.mysql import Statements
from celery_mysqllock.settings import check_identifier

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from celery_mysqllock.jobs.lock_names import LockNames
    from celery_mysqllock.mysql import Session

# Most rows that one statement changes, so that none locks the table for long.
_BATCH = 500


class Control:
    """Changes to jobs and queues, through one session. Each is committed when it returns.

    Args:
        session: An open session.
        table: The job table's name.
        names: The names of the table's locks; None asks the server for them.

    Raises:
        SettingsError: The table's name is none.
    """

    def __init__(
        self, session: Session, table: str = "jobs", *, names: LockNames | None = None
    ) -> None:
        name = check_identifier("table", table)
        self._session = session
        self._sql = Statements(__package__, "control.sql", jobs=name, **table_names(name))
        self._table = JobTable(session, name, names=names)

    # -- jobs -------------------------------------------------------------------------------------

    def retry(self, ids: Sequence[int]) -> int:
        """Queue dead jobs again, as if they had never been delivered, and ring.

        Other jobs are left alone. The row loses its expiry; a worker obeys the one in the message
        all the same.

        Returns:
            How many were dead.
        """
        changed = self._change_and_ring("retry", ids)
        self._table.ordering.unblock(self._order_keys(ids))
        return changed

    def discard(self, ids: Sequence[int]) -> int:
        """Delete jobs, except those that a consumer has; returns how many."""
        keys = self._order_keys(ids)
        discarded = sum(self._change("discard", ids=batch) for batch in _batches(ids))
        self._table.ordering.unblock(keys)
        return discarded

    def move(self, ids: Sequence[int], to: str) -> int:
        """Put jobs into another queue, except claimed and finished ones, and ring.

        Returns:
            How many.

        Raises:
            SettingsError: The queue's name is too long.
        """
        _check_name(to)
        return self._change_and_ring("move", ids, to=to)

    def _change_and_ring(self, statement: str, ids: Sequence[int], **values: Any) -> int:  # noqa: ANN401 - SQL values
        changed = 0
        queues: set[str] = set()
        for batch in _batches(ids):
            changed += self._change(statement, ids=batch, **values)
            found = self._session.query(self._sql["queues_of"], {"ids": batch})
            queues |= {queue for (queue,) in found}
        for queue in queues if changed else ():
            self._table.ringer.ring_all(queue)
        return changed

    def _order_keys(self, ids: Sequence[int]) -> list[str]:
        """The order keys of the jobs, each as often as a job has it."""
        return list(self._table.ordering.keys_of(ids).values())

    # -- queues -----------------------------------------------------------------------------------

    def pause(self, queue: str) -> None:
        """Stop claims from the queue, from each worker's next claim on.

        Claimed and prefetched jobs run on. Publishing goes on.

        Raises:
            SettingsError: The queue's name is too long.
        """
        _check_name(queue)
        self._change("pause", queue=queue)

    def resume(self, queue: str) -> bool:
        """Allow claims from the queue again, and ring; False when it was not paused."""
        was_paused = bool(self._change("resume", queue=queue))
        self._table.ringer.ring_all(queue)
        return was_paused

    def purge(self, queue: str) -> int:
        """Delete all ready, scheduled and blocked jobs of the queue; returns how many."""
        return self._table.maintenance.purge(queue)

    def delete_queue(self, queue: str) -> bool:
        """Forget a queue that has no jobs: its bindings, its pause and how many jobs have ended.

        Declaring it, or publishing to it, creates it again. Until then it gets nothing from the
        exchanges that it was bound to, so no consumer should consume from it any more.

        Returns:
            False when it has jobs, or is not known.
        """
        statements = ("forget_bindings", "forget_pause", "forget_throughput")
        return sum(self._change(statement, queue=queue) for statement in statements) > 0

    def move_queue(self, queue: str, to: str) -> int:
        """Put all ready, scheduled and blocked jobs of a queue into another one, and ring.

        Returns:
            How many.

        Raises:
            SettingsError: It is the same queue, or the name is too long.
        """
        _check_name(to)
        if queue == to:
            raise SettingsError(f"The jobs of {queue} are in {to} already.")
        moved = 0
        while changed := self._change("move_queue", queue=queue, to=to):
            moved += changed
        self._table.ringer.ring_all(to)
        return moved

    def _change(self, statement: str, **values: Any) -> int:  # noqa: ANN401 - SQL values
        return retried(lambda: self._session.execute(self._sql[statement], values))


def _batches(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(ids), _BATCH):
        yield ids[start : start + _BATCH]


def _check_name(queue: str) -> None:
    if not queue:
        raise SettingsError("A queue's name is empty.")
    check_queue_name(queue)
