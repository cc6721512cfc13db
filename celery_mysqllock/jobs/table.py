"""The job table and what may be done with a job: put, claim, ack, release, bury."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from celery_mysqllock.exceptions import SettingsError, TransientError
from celery_mysqllock.mysql import Session, Statements
from celery_mysqllock.settings import check_identifier

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    T = TypeVar("T")

LOWEST_PRIORITY, HIGHEST_PRIORITY = 0, 9
QUEUE_NAME_LIMIT = 255
_ATTEMPTS = 10


@dataclass(frozen=True)
class ClaimedJob:
    """A job that a consumer has claimed.

    Attributes:
        id: The row's id.
        message: The row's message, as it was stored.
        queue: The queue it was in.
        deliveries: How often it had been claimed before.
    """

    id: int
    message: str
    queue: str
    deliveries: int


class JobTable:
    """The job table, through one session.

    A statement that the server rolled back (deadlock, lock wait) is sent again. Each claim is
    fenced by its owner: what another consumer has meanwhile is never touched.

    Args:
        session: An open session.
        table: The table's name.
        claim_method: ``skip_locked``, ``compare_and_set``, or ``auto`` for what the server can.

    Raises:
        SettingsError: The table's name is none.
    """

    def __init__(
        self, session: Session, table: str = "jobs", *, claim_method: str = "auto"
    ) -> None:
        self.name = check_identifier("table", table)
        self._session = session
        self._sql = Statements(__package__, "jobs.sql", jobs=self.name)
        skip_locked = claim_method == "skip_locked" or (
            claim_method == "auto" and session.server.has_skip_locked
        )
        self._claim = self._claim_locked if skip_locked else self._claim_compared

    # -- producing --------------------------------------------------------------------------------

    def put(self, queue: str, message: str, *, priority: int = LOWEST_PRIORITY) -> int:
        """Store a message as a queued job; when this returns, it is committed.

        Args:
            queue: The queue's name, 255 characters at most.
            message: The text.
            priority: 0 to 9, the greater first.

        Returns:
            The job's id.

        Raises:
            SettingsError: The queue's name is too long.
            MessageTooLarge, ServerFull, ReadOnlyServer, ConnectionLost: It was not stored; after
                ConnectionLost it may have been, as with any broker.
        """
        if len(queue) > QUEUE_NAME_LIMIT:
            raise SettingsError(
                f"The queue name {queue[:40]!r}... has {len(queue)} characters; "
                f"{QUEUE_NAME_LIMIT} are allowed."
            )
        values = {"message": message, "queue": queue, "claim_order": HIGHEST_PRIORITY - priority}
        return self._retried(lambda: self._session.insert(self._sql["put"], values))

    # -- consuming --------------------------------------------------------------------------------

    def claim(self, queue: str, limit: int, owner: str) -> list[ClaimedJob]:
        """Claim up to so many jobs of the queue, the first in line first.

        Args:
            queue: The queue's name.
            limit: How many at most, one or more.
            owner: The consumer's identity; see ``Consumer``.
        """
        return self._retried(lambda: self._claim(queue, limit, owner))

    def _claim_locked(self, queue: str, limit: int, owner: str) -> list[ClaimedJob]:
        with self._session.transaction():
            rows = self._session.query(self._sql["lock_oldest"], {"queue": queue, "limit": limit})
            if rows:
                ids = [row[0] for row in rows]
                self._session.execute(self._sql["mark_claimed"], {"ids": ids, "owner": owner})
        return [ClaimedJob(*row) for row in rows]

    def _claim_compared(self, queue: str, limit: int, owner: str) -> list[ClaimedJob]:
        found = self._session.query(self._sql["find_oldest"], {"queue": queue, "limit": limit})
        values = {"ids": [row[0] for row in found], "owner": owner}
        if not found or not self._session.execute(self._sql["take_queued"], values):
            return []
        return [ClaimedJob(*row) for row in self._session.query(self._sql["read_taken"], values)]

    def ack(self, ids: Collection[int], owner: str) -> int:
        """Delete finished jobs.

        Returns:
            How many rows went: fewer than were asked for when some are no longer the owner's.
        """
        return self._change("ack", ids=list(ids), owner=owner)

    def release(self, ids: Collection[int], owner: str) -> int:
        """Give claimed jobs back to their queues; returns how many, as in ``ack``."""
        return self._change("release", ids=list(ids), owner=owner)

    def bury(self, job_id: int, owner: str, reason: str) -> bool:
        """Keep a claimed job as dead, with the reason; False when it is no longer the owner's."""
        return self._change("bury", id=job_id, owner=owner, reason=reason) == 1

    def explain(self, job_id: int, reason: str) -> None:
        """Replace the reason of a dead job by a better one."""
        self._change("explain", id=job_id, reason=reason)

    # -- the claims of others ---------------------------------------------------------------------

    def owners(self) -> set[str]:
        """The identities of all consumers that have claims."""
        return {row[0] for row in self._session.query(self._sql["owners"])}

    def release_claims_of(self, owner: str) -> int:
        """Give all claims of a dead consumer back; returns how many jobs that are."""
        return self._change("release_claims_of", owner=owner)

    # -- queues -----------------------------------------------------------------------------------

    def count_ready(self, queue: str) -> int:
        """How many jobs of the queue wait. Slow on millions: counts them one by one."""
        return int(self._session.value(self._sql["count_ready"], {"queue": queue}))

    def purge(self, queue: str) -> int:
        """Delete all waiting jobs of the queue; returns how many."""
        purged = 0
        while gone := self._change("purge", queue=queue):
            purged += gone
        return purged

    def _change(self, statement: str, **values: Any) -> int:  # noqa: ANN401 - SQL values
        return self._retried(lambda: self._session.execute(self._sql[statement], values))

    @staticmethod
    def _retried(statement: Callable[[], T]) -> T:
        for _ in range(_ATTEMPTS - 1):
            try:
                return statement()
            except TransientError:
                continue
        return statement()
