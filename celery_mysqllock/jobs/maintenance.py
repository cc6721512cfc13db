"""Maintenance of the job table: jobs that are due, finished or purged, and those of the dead."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from celery_mysqllock.exceptions import RowsLocked
from celery_mysqllock.jobs.counted import in_each_delivery
from celery_mysqllock.jobs.events import JobDead, JobRecovered
from celery_mysqllock.jobs.job import pause_after
from celery_mysqllock.jobs.retry import MOST_WAITS, retried
from celery_mysqllock.jobs.ringer import Ringer
from celery_mysqllock.mysql import Script

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from celery_mysqllock.jobs.events import Observer
    from celery_mysqllock.jobs.lock_names import LockNames
    from celery_mysqllock.jobs.ordering import Ordering
    from celery_mysqllock.mysql import Session, Statements

    Rows = Sequence[tuple[Any, ...]]
    # Adds statements that change the rows to a script; gives the order keys of jobs that end by it.
    Change = Callable[[Script, Rows], list[str]]

_NAMED = ("ready", "paused", "owner", "consumer")


class Backlog(NamedTuple):
    """Pending maintenance work.

    Attributes:
        until_due: Seconds until the next scheduled job is due, infinite when there is none.
        ready_queues: The queues that have queued jobs, except paused ones.
        paused_queues: The paused queues.
        owners: The identities of all consumers that have claims or ephemeral queues.
        consumers: The identities of all that are registered.
    """

    until_due: float
    ready_queues: set[str]
    paused_queues: set[str]
    owners: set[str]
    consumers: set[str]

    @property
    def is_due(self) -> bool:
        """Whether a scheduled job is due."""
        return self.until_due <= 0


class _Changed(NamedTuple):
    """The rows that were found and changed, and id and queue of the jobs unblocked by it."""

    rows: Rows
    unblocked: list[tuple[int, str]]

    @property
    def queues(self) -> set[str]:
        """The queues of all of them, of rows that have the queue in the second place."""
        return {row[1] for row in (*self.rows, *self.unblocked)}


class Maintenance:
    """Changes jobs that no living consumer has claimed, through one session.

    Rows that another transaction has locked are left for the next time, so that they delay nothing
    but themselves.

    Args:
        session: An open session.
        sql: The statements of the job table.
        names: The names of the table's locks.
        ordering: Unblocks the next jobs of a key, on the same session.
        can_skip_locked: Whether the server can leave out rows that another transaction has locked.
        observer: Is told which jobs are recovered or dead.
    """

    def __init__(  # noqa: PLR0913 - each is named at the call
        self,
        session: Session,
        sql: Statements,
        names: LockNames,
        *,
        ordering: Ordering,
        can_skip_locked: bool,
        observer: Observer,
    ) -> None:
        self._session = session
        self._sql = sql
        self._table = names.table
        self._ringer = Ringer(session, names)
        self._ordering = ordering
        self._can_skip_locked = can_skip_locked
        self._observer = observer

    def survey(self) -> Backlog:
        """See what there is to do, with one statement."""
        until_due = math.inf
        named: dict[str, set[str]] = {kind: set() for kind in _NAMED}
        for what, name, seconds in self._session.query(self._sql["survey"]):
            if what in named:
                named[what].add(name)
            elif seconds is not None:
                until_due = float(seconds)
        ready = named["ready"] - named["paused"]
        return Backlog(until_due, ready, named["paused"], named["owner"], named["consumer"])

    def promote(self) -> bool:
        """Queue scheduled jobs that are due, and ring; True when there may be more.

        Those that have an order key become blocked, and the next of each key are unblocked.
        """

        def change(script: Script, rows: Rows) -> list[str]:
            script.add(self._sql["promote"], ids=[row[0] for row in rows])
            return [row[2] for row in rows if row[2] is not None]

        changed = self._change_found("find_due", change)
        self._ringer.ring_each(changed.queues)
        return bool(changed.rows)

    def recover_claims_of(self, owner: str, max_deliveries: int = 0) -> int:
        """Give all claims of a dead consumer back; returns how many jobs that are.

        Args:
            owner: The dead consumer's identity.
            max_deliveries: A job that has begun this often becomes dead instead; 0 for no limit.
        """
        recovered = 0
        change = partial(self._recover, owner, max_deliveries)
        while (changed := self._change_found("find_claims_of", change, owner=owner)).rows:
            self._ringer.ring_each(changed.queues)
            recovered += len(changed.rows)
            for job_id, queue, _, deliveries, had_begun in changed.rows:
                if _is_spent(deliveries, had_begun, max_deliveries):
                    self._observer.tell(JobDead(job_id, _reason(max_deliveries), owner))
                else:
                    self._observer.tell(JobRecovered(job_id, queue, deliveries, owner))
        return recovered

    def _recover(self, owner: str, max_deliveries: int, script: Script, rows: Rows) -> list[str]:
        returned: dict[float, list[int]] = {}
        buried: list[int] = []
        ended_keys: list[str] = []
        for job_id, _, order_key, deliveries, had_begun in rows:
            if _is_spent(deliveries, had_begun, max_deliveries):
                buried.append(job_id)
                ended_keys += [] if order_key is None else [order_key]
            else:
                pause = pause_after(deliveries) if had_begun else 0.0
                returned.setdefault(pause, []).append(job_id)
        if buried:
            reason = _reason(max_deliveries)
            script.add(self._sql["bury_these"], ids=buried, owner=owner, reason=reason)
        for seconds, ids in returned.items():
            script.add(self._sql["recover"], ids=ids, owner=owner, seconds=seconds)
        return ended_keys

    def remove_finished(self, retention: float) -> int:
        """Remove some jobs that were finished ``retention`` seconds ago; returns how many."""
        return self._delete("find_finished", "remove_finished", seconds=retention)

    def sum_up_throughput(self) -> None:
        """Add what was counted more than ten minutes ago to the totals of the queues."""
        if self._session.value(self._sql["has_old_throughput"]) is None:
            return
        with self._session.exclusive():
            retried(lambda: self._session.script(self._sql["sum_up_throughput"]), self._table, 0.0)

    def count_ready(self, queue: str) -> int:
        """How many jobs of the queue are queued or blocked. Slow on millions: it counts each."""
        return int(self._session.value(self._sql["count_ready"], {"queue": queue}))

    def purge(self, queue: str) -> int:
        """Delete all unclaimed jobs of the queue, except locked ones; returns how many."""
        purged = 0
        while deleted := self._delete("find_unclaimed", "purge", queue=queue):
            purged += deleted
        return purged

    # -- changing what is found -------------------------------------------------------------------

    def _delete(self, find: str, delete: str, **values: object) -> int:
        """Delete some of the rows that there are; returns how many, zero when there are none."""

        def change(script: Script, rows: Rows) -> list[str]:
            script.add(self._sql[delete], ids=[row[0] for row in rows])
            return []

        return len(self._change_found(find, change, **values).rows)

    def _change_found(self, find: str, change: Change, **values: object) -> _Changed:
        """Find rows that are not locked, change them and unblock others, in one transaction.

        Args:
            find: The name of the statement that finds them.
            change: Changes them.
            **values: Those of the statement that finds.
        """
        if not self._can_skip_locked:
            return self._change_each(self._session.query(self._sql[find], values), change)

        def once() -> _Changed:
            with self._session.exclusive():
                script = Script(self._session)
                script.add("BEGIN")
                found = script.add(f"{self._sql[find]} {self._sql['skip_locked']}", **values)
                script.run()
                return _Changed(found.rows, self._apply(script, found.rows, change))

        return retried(once, self._table)

    def _change_each(self, found: Rows, change: Change) -> _Changed:
        """Change rows on a server that cannot leave out locked ones: in halves, down to one row."""

        def once(rows: Rows) -> list[tuple[int, str]]:
            with self._session.exclusive():
                script = Script(self._session)
                script.add("BEGIN")
                return self._apply(script, rows, change)

        changed: list[tuple[Any, ...]] = []
        unblocked: list[tuple[int, str]] = []
        parts, waits = [found] if found else [], 0
        while parts and waits < MOST_WAITS:
            rows = parts.pop(0)
            try:
                unblocked += retried(partial(once, rows), self._table, 0.0)
                changed += rows
            except RowsLocked:
                waits += 1
                half = len(rows) // 2
                # the rows behind are not to wait again for those in front
                parts += [part for part in (rows[half:], rows[:half]) if part and half]
        return _Changed(changed, unblocked)

    def _apply(self, script: Script, rows: Rows, change: Change) -> list[tuple[int, str]]:
        """Change rows in the open transaction, and commit; id and queue of the unblocked jobs."""
        ended_keys = change(script, rows) if rows else []
        unblocked = self._ordering.unblock_in(script, ended_keys, skip_locked=True)
        script.add("COMMIT")
        script.run()
        return unblocked


def _is_spent(deliveries: int, had_begun: object, max_deliveries: int) -> bool:
    """Whether a job of a dead consumer has begun too often to go back to its queue."""
    return bool(had_begun and max_deliveries and deliveries >= max_deliveries)


def _reason(max_deliveries: int) -> str:
    return f"Its worker died {in_each_delivery(max_deliveries)} (max_deliveries)."
