"""The ways to take the first jobs in line: each server has one that works, or is the fastest."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from celery_mysqllock.exceptions import RowsLocked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celery_mysqllock.mysql import Server, Session, Statements

    Rows = list[tuple[Any, ...]]

logger = logging.getLogger(__name__)

# Two steps pay for so many jobs and more. For fewer, the third round trip costs more than it saves.
_MANY = 4
# Where it stands in a found row how often the job was taken back from a dead consumer.
_RECOVERIES = 7
# Seconds for which an old server is not asked again for a row that somebody else has locked, and
# how many of these are waited for at a time.
_AVOIDED, _MOST_WAITS = 30.0, 3


class SkipLocked:
    """Lock the first in line that nobody else is locking, and mark them.

    Attributes:
        is_locking: Whether what is found is locked, so that the transaction goes on.
    """

    is_locking = True

    def find(self) -> str:
        """The name of the statement that finds jobs, in a transaction that has begun."""
        return "lock_oldest"

    def widened(self, limit: int) -> int:
        """How many rows to find, so that so many can be taken."""
        return limit

    def take(self, session: Session, sql: Statements, found: Rows, values: dict[str, Any]) -> Rows:
        """Make what was found the owner's, as far as it can be, and commit.

        Args:
            session: The session of the transaction.
            sql: The statements of the job table.
            found: The rows of the statement that ``find`` names.
            values: Its values, and how many of the jobs begin at once as ``starts``; ``ids``
                becomes those of the taken jobs, and ``started`` those of the beginning ones.

        Returns:
            A row for each job that is the owner's now.
        """
        values["ids"] = [row[0] for row in found]
        values["started"] = _starting([(row[0], row[_RECOVERIES]) for row in found], values)
        if not found:
            session.execute("COMMIT")
            return found
        marked, _ = session.script(f"{sql['mark_claimed']}; COMMIT", values)
        return found if marked == len(found) else _those_taken(session, sql, values)


class TwoSteps(SkipLocked):
    """Find the first in line unlocked, and lock them by their ids.

    MariaDB looks up who has changed each row that it locks through an index; by the primary key
    it need not. Where others have locked some of them, it locks as ``SkipLocked`` does.
    """

    def __init__(self) -> None:
        self._pays = False

    def find(self) -> str:
        """As in ``SkipLocked``."""
        return "find_oldest" if self._pays else "lock_oldest"

    def take(self, session: Session, sql: Statements, found: Rows, values: dict[str, Any]) -> Rows:
        """As in ``SkipLocked``."""
        rows = found
        if self._pays and found:
            rows = session.query(sql["lock_found"], {**values, "ids": [row[0] for row in found]})
        others_are_here = len(rows) < len(found)
        if others_are_here:
            rows = session.query(sql["lock_oldest"], values)
        self._pays = len(rows) >= _MANY and not others_are_here
        return super().take(session, sql, rows, values)


class CompareAndSet(SkipLocked):
    """Find the first in line, and change those that are still queued: for old servers."""

    is_locking = False

    def __init__(self) -> None:
        self._locked: dict[int, float] = {}

    def find(self) -> str:
        """As in ``SkipLocked``; nothing is locked, so no transaction is needed."""
        return "find_oldest"

    def widened(self, limit: int) -> int:
        """As in ``SkipLocked``: those that somebody else has locked may be among the first."""
        return limit + len(self._locked)

    def take(self, session: Session, sql: Statements, found: Rows, values: dict[str, Any]) -> Rows:
        """As in ``SkipLocked``."""
        self._forget()
        candidates = [row for row in found if row[0] not in self._locked][: values["limit"]]
        values["ids"] = [row[0] for row in candidates]
        values["started"] = _starting([(row[0], row[1]) for row in candidates], values)
        try:
            return self._take(session, sql, values) if candidates else []
        except RowsLocked:
            return self._take_each(session, sql, values)

    def _take(self, session: Session, sql: Statements, values: dict[str, Any]) -> Rows:
        _, rows = session.script(f"{sql['take_queued']}; {sql['read_taken']}", values)
        taken: Rows = rows
        return taken

    def _take_each(self, session: Session, sql: Statements, values: dict[str, Any]) -> Rows:
        """As ``_take``, one by one, save those that somebody else has locked."""
        taken: Rows = []
        waits = 0
        for job_id in values["ids"]:
            try:
                taken += self._take(session, sql, {**values, "ids": [job_id]})
            except RowsLocked:
                self._locked[job_id] = time.monotonic() + _AVOIDED
                waits += 1
                if waits == _MOST_WAITS:
                    break
        return taken

    def _forget(self) -> None:
        """The rows may be free again that were locked a while ago."""
        now = time.monotonic()
        self._locked = {job_id: until for job_id, until in self._locked.items() if until > now}


def _starting(candidates: Sequence[tuple[int, int]], values: dict[str, Any]) -> list[int]:
    """The ids of the jobs that begin at once, behind a zero, as a list in SQL is not empty.

    Args:
        candidates: Id and recoveries of each. Those that have come back from a dead consumer take
            the place of another one, but are counted when they begin: see ``Window``.
        values: As in ``SkipLocked.take``.
    """
    starts = values["starts"]
    if starts is None:
        return [0, *(job_id for job_id, _ in candidates)]
    fresh = [job_id for job_id, recoveries in candidates if not recoveries]
    return [0, *fresh[: max(0, starts - (len(candidates) - len(fresh)))]]


def _those_taken(session: Session, sql: Statements, values: dict[str, Any]) -> Rows:
    """The rows that are the owner's, where others were changed although this had locked them."""
    logger.error(
        "Jobs were claimed by others while they were locked here: this server's SKIP LOCKED does "
        "not lock. Set claim_method='compare_and_set' in broker_transport_options."
    )
    return session.query(sql["read_taken"], values)


def way_to_take(claim_method: str, server: Server) -> SkipLocked:
    """The way for a server.

    Args:
        claim_method: ``skip_locked``, ``two_steps``, ``compare_and_set``; or ``auto`` for the
            fastest that the server can.
        server: The server.
    """
    if claim_method == "auto":
        if not server.has_skip_locked:
            return CompareAndSet()
        return TwoSteps() if server.is_mariadb else SkipLocked()
    ways = {"skip_locked": SkipLocked, "two_steps": TwoSteps, "compare_and_set": CompareAndSet}
    return ways[claim_method]()
