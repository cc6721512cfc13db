"""What a person does with jobs and queues: retry, discard, move, pause, purge, delete and so on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery_mysqllock.exceptions import SettingsError
from celery_mysqllock.jobs.bell import wake
from celery_mysqllock.jobs.ephemeral import table_names
from celery_mysqllock.jobs.job import check_queue_name
from celery_mysqllock.jobs.lock_names import LockNames
from celery_mysqllock.jobs.retry import retried
from celery_mysqllock.jobs.table import JobTable
from celery_mysqllock.mysql import Statements, used_by
from celery_mysqllock.settings import check_identifier

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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
        self._names = LockNames.of(session, name) if names is None else names
        self._sql = Statements(__package__, "control.sql", jobs=name, **table_names(name))
        self._table = JobTable(session, name, names=self._names)

    # -- jobs -------------------------------------------------------------------------------------

    def retry(self, ids: Sequence[int]) -> int:
        """Queue dead jobs again, as if they had never been delivered, and ring.

        Other jobs are left alone. What the row says of its expiry goes; where the message itself
        says when the task expires, the worker goes by it.

        Returns:
            How many were dead.
        """
        changed = self._change_and_ring("retry", ids)
        self._table.admit(self._table.order_keys(ids))
        return changed

    def discard(self, ids: Sequence[int]) -> int:
        """Delete jobs, save those that a consumer has; returns how many."""
        keys = self._table.order_keys(ids)
        discarded = sum(self._change("discard", ids=batch) for batch in _batches(ids))
        self._table.admit(keys)
        return discarded

    def move(self, ids: Sequence[int], to: str) -> int:
        """Put jobs into another queue, save those that a consumer has or that are done, and ring.

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
            self._ring_all(queue)
        return changed

    # -- queues -----------------------------------------------------------------------------------

    def pause(self, queue: str) -> None:
        """Have nobody claim from the queue: from each worker's next claim on.

        What is claimed runs on, what workers have prefetched too. Publishing goes on.

        Raises:
            SettingsError: The queue's name is too long.
        """
        _check_name(queue)
        self._change("pause", queue=queue)

    def resume(self, queue: str) -> bool:
        """Have the queue claimed from again, and ring; False when it was not paused."""
        was_paused = bool(self._change("resume", queue=queue))
        self._ring_all(queue)
        return was_paused

    def purge(self, queue: str) -> int:
        """Delete all ready, scheduled and waiting jobs of the queue; returns how many."""
        return self._table.purge(queue)

    def delete_queue(self, queue: str) -> bool:
        """Forget a queue that has no jobs: its bindings, its pause and how many jobs have ended.

        Whoever declares it, or publishes to it, makes it anew. What it was bound to does not reach
        it until then: nobody should consume from it any more.

        Returns:
            False when it has jobs, or is not known.
        """
        statements = ("forget_bindings", "forget_pause", "forget_throughput")
        return sum(self._change(statement, queue=queue) for statement in statements) > 0

    def move_queue(self, queue: str, to: str) -> int:
        """Put all ready, scheduled and waiting jobs of a queue into another one, and ring.

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
        self._ring_all(to)
        return moved

    def _ring_all(self, queue: str) -> None:
        """Wake every idle consumer of the queue: there may be work for all."""
        for bell in self._names.bells(queue):
            wake(self._session, used_by(self._session, bell))

    def _change(self, statement: str, **values: Any) -> int:  # noqa: ANN401 - SQL values
        return retried(lambda: self._session.execute(self._sql[statement], values))


def _batches(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(ids), _BATCH):
        yield ids[start : start + _BATCH]


def _check_name(queue: str) -> None:
    if not queue:
        raise SettingsError("A queue's name is empty.")
    check_queue_name(queue)
