"""Order keys: jobs that have one in common run in the order of their ids, some at a time.

A job with an ``order_key`` is stored as blocked, and is not claimed. It is unblocked, that is
queued, when fewer jobs of its key than its ``order_limit`` are active: queued, claimed, or deferred
after a claim. The transaction that ends a job of the key unblocks the next one, so that it can be
claimed as soon as the one before has ended, and not earlier.
"""

from __future__ import annotations

import zlib
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from celery_mysqllock.jobs.retry import retried
from celery_mysqllock.jobs.ringer import Ringer
from celery_mysqllock.mysql import Script

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from celery_mysqllock.jobs.lock_names import LockNames
    from celery_mysqllock.mysql import ScriptResult, Session, Statements

# As many as the migration has made rows.
_SLOTS = 1000
# Keys with blocked jobs that are looked at in one go, and jobs of one key that are unblocked then.
_KEYS, _JOBS = 5000, 100


class OrderKey(NamedTuple):
    """What makes a job wait for others.

    Attributes:
        text: What the jobs have in common of which only some run at a time; ASCII, 255 characters.
        limit: So many at a time.
    """

    text: str
    limit: int = 1


def slots(keys: Iterable[str]) -> list[int]:
    """The rows to lock for these keys, in the order in which every transaction locks them."""
    # spaces at the end make no difference where the server compares keys
    return sorted({zlib.crc32(key.rstrip(" ").encode()) % _SLOTS for key in keys})


class Ordering:
    """Unblocks jobs that have an order key.

    Args:
        session: An open session.
        sql: The statements of the job table.
        names: The names of the table's locks.
        can_skip_locked: Whether the server can leave out rows that another transaction has locked.
    """

    def __init__(
        self, session: Session, sql: Statements, names: LockNames, *, can_skip_locked: bool
    ) -> None:
        self._session = session
        self._sql = sql
        self._table = names.table
        self._ringer = Ringer(session, names)
        self._can_skip_locked = can_skip_locked

    def keys_of(self, ids: Collection[int]) -> dict[int, str]:
        """The order keys of those of the jobs that have one, by their ids."""
        if not ids:
            return {}
        return dict(self._session.query(self._sql["order_keys_of"], {"ids": list(ids)}))

    def unblock(self, keys: Sequence[str], *, skip_locked: bool = False) -> None:
        """Queue the next jobs of these order keys, as far as their limits allow, and ring.

        To be called after jobs of the keys were stored as blocked, or have ended, and that is
        committed.

        Args:
            keys: The order keys, each as often as another job may have become free to run.
            skip_locked: As in ``unblock_in``.
        """
        if not keys:
            return

        def once() -> list[tuple[int, str]]:
            with self._session.exclusive():
                script = Script(self._session)
                script.add("BEGIN")
                unblocked = self.unblock_in(script, keys, skip_locked=skip_locked)
                script.add("COMMIT")
                script.run()
                return unblocked

        self._ringer.ring_each({queue for _, queue in retried(once, self._table)})

    def unblock_in(
        self, script: Script, keys: Sequence[str], *, skip_locked: bool = False
    ) -> list[tuple[int, str]]:
        """Queue the next jobs of these order keys in an open transaction.

        The transaction has to be READ COMMITTED: it must see what others have committed while it
        waited for a key.

        Args:
            script: The transaction. What was added before, such as the end of jobs, runs first; the
                last statement may be left for the script's next run.
            keys: As in ``unblock``.
            skip_locked: Leave a key alone while another transaction has it or its next job locked,
                and do not wait; the sweeper unblocks it later. Only where the server can do that.

        Returns:
            The id and the queue of each job that is queued now.
        """
        if not keys:
            return []
        skip_locked = skip_locked and self._can_skip_locked
        block = "lock_free_order_keys" if skip_locked else "lock_order_keys"
        locked = script.add(self._sql[block], slots=slots(keys))
        left = Counter(keys)
        if skip_locked:
            script.run()
            left = Counter(key for key in keys if (slots([key])[0],) in locked.rows)
        unblocked: list[tuple[int, str]] = []
        while left:
            found = self._find_unblocked(script, list(left))
            script.run()
            rows = self._lock_free(script, found.rows) if skip_locked else found.rows
            if not rows:
                break
            script.add(self._sql["unblock"], ids=[row[0] for row in rows])
            unblocked += [(job_id, queue) for job_id, queue in rows]
            left -= Counter(set(left))
        return unblocked

    def _find_unblocked(self, script: Script, keys: Sequence[str]) -> ScriptResult:
        """Add the statement that finds id and queue of the next job of each key that may run."""
        values = {f"key{number}": key for number, key in enumerate(keys)}
        firsts = " UNION ALL ".join(
            self._sql["first_blocked"].replace("%(order_key)s", f"%({name})s") for name in values
        )
        find = self._sql["find_unblocked"].replace("%(firsts)s", firsts)
        return script.add(find, **values, keys=list(keys))

    def _lock_free(self, script: Script, found: Sequence[Any]) -> list[Any]:
        """Lock the found rows, and return those that no other transaction has locked."""
        if not found:
            return []
        lock = f"{self._sql['exist']} {self._sql['skip_locked']}"
        free = script.add(lock, ids=[row[0] for row in found])
        script.run()
        return [row for row in found if (row[0],) in free.rows]

    def unblock_stalled(self, after: str = "") -> str:
        """Queue the next jobs of each order key that has fewer active jobs than it may have.

        The end of a job unblocks the next one; this is for jobs that were deleted or changed by
        hand.

        Args:
            after: Look at the keys that follow this one.

        Returns:
            The last key that was looked at, to go on after it; nothing when it was the last of all.
        """
        rows = self._session.query(self._sql["find_stalled"], {"after": after, "limit": _KEYS})
        keys = [key for key, free in rows for _ in range(min(free, _JOBS))]
        self.unblock(keys, skip_locked=True)
        return rows[-1][0] if len(rows) == _KEYS else ""
