"""Claim strategies: how to claim the first jobs of a queue; the best way depends on the server."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from celery_mysqllock.exceptions import RowsLocked, TransientError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from celery_mysqllock.mysql import Script, ScriptResult, Server, Statements

    Rows = list[tuple[Any, ...]]

logger = logging.getLogger(__name__)

# Two steps pay from this many jobs on. For fewer, the third round trip costs more than it saves.
_MANY = 4
# The column of a found row that counts how often the job was taken back from a dead consumer.
_RECOVERIES = 7
# Seconds for which an old server is not asked again for a row that another transaction has locked,
# and how many of these are waited for at a time.
_AVOIDED, _MOST_WAITS = 30.0, 3


class Claim(NamedTuple):
    """What is to be claimed.

    Attributes:
        owner: The consumer's identity.
        queue: The queue.
        limit: Most jobs to claim.
        starts: How many of them begin at once, so that their delivery counts; None for all. A job
            that came back from a dead consumer begins only in the case of None.
    """

    owner: str
    queue: str
    limit: int
    starts: int | None


class Claimed(NamedTuple):
    """What was claimed.

    Attributes:
        rows: A row for each job that is the owner's now.
        started: The ids of those that have begun.
    """

    rows: Rows
    started: Collection[int]


class ClaimStrategy(Protocol):
    """Claims jobs in two steps, in a transaction that a script has begun.

    Attributes:
        can_skip_locked: Whether the server can leave out rows that another transaction has locked.
    """

    can_skip_locked: bool

    def find(self, script: Script, claim: Claim) -> ScriptResult:
        """Add the statement that finds jobs; and the commit, where they are not locked by it."""

    def take(self, script: Script, found: Rows, claim: Claim) -> Claimed:
        """Make the found jobs the owner's, as far as they still can be, and commit."""


class SkipLocked:
    """Lock the first jobs that no other consumer is locking, and mark them.

    Args:
        sql: The statements of the job table.
        in_two_steps: Whether to find them without locking, and to lock them by their ids, while
            that pays: MariaDB looks up which transaction has changed each row that it locks through
            an index; it need not do so by the primary key.
    """

    can_skip_locked = True

    def __init__(self, sql: Statements, *, in_two_steps: bool = False) -> None:
        self._sql = sql
        self._in_two_steps = in_two_steps
        self._pays = False

    def find(self, script: Script, claim: Claim) -> ScriptResult:  # noqa: D102 - as in ClaimStrategy
        find = self._sql["find_oldest" if self._pays else "lock_oldest"]
        return script.add(find, queue=claim.queue, limit=claim.limit)

    def take(self, script: Script, found: Rows, claim: Claim) -> Claimed:  # noqa: D102
        rows = found
        if self._pays and found:
            locked = script.add(self._sql["lock_found"], ids=_ids(found))
            script.run()
            rows = locked.rows
        others_are_here = len(rows) < len(found)
        if others_are_here:
            locked = script.add(self._sql["lock_oldest"], queue=claim.queue, limit=claim.limit)
            script.run()
            rows = locked.rows
        self._pays = self._in_two_steps and len(rows) >= _MANY and not others_are_here
        return self._mark(script, rows, claim)

    def _mark(self, script: Script, rows: Rows, claim: Claim) -> Claimed:
        """Make locked jobs the owner's, and commit."""
        if not rows:
            script.add("COMMIT")
            script.run()
            return Claimed([], ())
        ids = _ids(rows)
        started = _starting([(row[0], row[_RECOVERIES]) for row in rows], claim.starts)
        marked = script.add(self._sql["claim"], ids=ids, started=started, owner=claim.owner)
        script.add("COMMIT")
        script.run()
        if marked.changed < len(rows):
            logger.error(
                "Jobs were claimed by others while they were locked here: this server's SKIP "
                "LOCKED does not lock. Set claim_method='compare_and_set' in "
                "broker_transport_options."
            )
            claimed = script.add(self._sql["read_claimed"], ids=ids, owner=claim.owner)
            script.run()
            rows = claimed.rows
        return Claimed(rows, started)


class CompareAndSet:
    """Find the first jobs, and change those that are still queued: for old servers."""

    can_skip_locked = False

    def __init__(self, sql: Statements) -> None:
        self._sql = sql
        # the ids of rows that another transaction had locked, and until when they are avoided
        self._locked: dict[int, float] = {}

    def find(self, script: Script, claim: Claim) -> ScriptResult:  # noqa: D102 - as in ClaimStrategy
        # locked ones may be among the first
        limit = claim.limit + len(self._locked)
        found = script.add(self._sql["find_oldest"], queue=claim.queue, limit=limit)
        script.add("COMMIT")
        return found

    def take(self, script: Script, found: Rows, claim: Claim) -> Claimed:  # noqa: D102
        now = time.monotonic()
        self._locked = {job_id: until for job_id, until in self._locked.items() if until > now}
        candidates = [row for row in found if row[0] not in self._locked][: claim.limit]
        if not candidates:
            return Claimed([], ())
        ids, started = _ids(candidates), _starting(candidates, claim.starts)
        try:
            rows = self._take(script, ids, started, claim.owner)
        except TransientError:
            rows = self._take_each(script, ids, started, claim.owner)
        return Claimed(rows, started)

    def _take(self, script: Script, ids: Sequence[int], started: Sequence[int], owner: str) -> Rows:
        script.add(self._sql["claim"], ids=ids, started=started, owner=owner)
        claimed = script.add(self._sql["read_claimed"], ids=ids, owner=owner)
        script.run()
        return claimed.rows

    def _take_each(
        self, script: Script, ids: Sequence[int], started: Sequence[int], owner: str
    ) -> Rows:
        """Take them one by one, except those that another transaction has locked.

        Each is committed by itself. So no error of one may hide those that were taken before it:
        they would be delivered to no consumer for as long as this one lives.
        """
        taken: Rows = []
        waits = 0
        for job_id in ids:
            try:
                taken += self._take(script, [job_id], started, owner)
            except RowsLocked:
                self._locked[job_id] = time.monotonic() + _AVOIDED
                waits += 1
                if waits == _MOST_WAITS:
                    break
            except TransientError:
                # the next claim may get it
                continue
        return taken


def _ids(rows: Rows) -> list[int]:
    return [row[0] for row in rows]


def _starting(candidates: Rows, starts: int | None) -> list[int]:
    """The ids of the jobs that begin at once, after a zero, as a list in SQL is not empty.

    Args:
        candidates: Id and recoveries of each. Those that came back from a dead consumer take the
            place of another one, but count when they begin: see ``Suspects``.
        starts: As in ``Claim``.
    """
    if starts is None:
        return [0, *_ids(candidates)]
    fresh = [job_id for job_id, recoveries in candidates if not recoveries]
    return [0, *fresh[: max(0, starts - (len(candidates) - len(fresh)))]]


def strategy_for(claim_method: str, server: Server, sql: Statements) -> ClaimStrategy:
    """The strategy for a server.

    Args:
        claim_method: ``skip_locked``, ``two_steps``, ``compare_and_set``; or ``auto`` for the
            fastest that the server can.
        server: The server.
        sql: The statements of the job table.
    """
    if claim_method == "auto" and server.has_skip_locked:
        claim_method = "two_steps" if server.is_mariadb else "skip_locked"
    if claim_method in ("two_steps", "skip_locked"):
        return SkipLocked(sql, in_two_steps=claim_method == "two_steps")
    return CompareAndSet(sql)
