"""The job table: who puts jobs into it, and what becomes of those that nobody looks after."""

from __future__ import annotations

import contextlib
import math
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from celery_mysqllock.exceptions import DatabaseError, MissingPrivilege, RowsLocked
from celery_mysqllock.jobs.bell import ring, ring_each, wake
from celery_mysqllock.jobs.counted import in_each_delivery
from celery_mysqllock.jobs.job import (
    HIGHEST_PRIORITY,
    LOWEST_PRIORITY,
    TASK_ID_LIMIT,
    check_key,
    check_queue_name,
    pause_after,
)
from celery_mysqllock.jobs.lock_names import BELL_PARAMETERS
from celery_mysqllock.jobs.ordered import OrderedJobs
from celery_mysqllock.jobs.retry import retried
from celery_mysqllock.jobs.unique import UniqueJobs, UniqueKey
from celery_mysqllock.jobs.work import Work

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from celery_mysqllock.jobs.job import Placement
    from celery_mysqllock.jobs.lines import OrderKey


# How often a server that cannot pass over locked rows is waited for in one go.
_MOST_WAITS = 4
_NAMED = ("ready", "paused", "owner", "consumer")


class Seen(NamedTuple):
    """What there is to do for nobody in particular.

    Attributes:
        until_due: Seconds until the next scheduled job is due, infinite when there is none.
        ready_queues: The queues in which jobs wait, save paused ones.
        owners: The identities of all consumers that have claims or ephemeral queues.
        consumers: The identities of all that are registered.
    """

    until_due: float
    ready_queues: set[str]
    owners: set[str]
    consumers: set[str]

    @property
    def is_due(self) -> bool:
        """Whether a scheduled job is due."""
        return self.until_due <= 0


class JobTable(OrderedJobs):
    """The job table, through one session; ``Claims`` says what it takes."""

    # -- producing --------------------------------------------------------------------------------

    def put(  # noqa: PLR0913 - each is named at the call
        self,
        queue: str,
        message: str,
        *,
        priority: int = LOWEST_PRIORITY,
        delay: float | None = None,
        lifetime: float | None = None,
        task_id: str | None = None,
        unique: UniqueKey | None = None,
        order: OrderKey | None = None,
    ) -> int:
        """Store a message as a job and ring for an idle consumer, in one round trip.

        When this returns, the job is committed.

        Args:
            queue: The queue's name, 255 characters at most.
            message: The text.
            priority: 0 to 9, the greater first.
            delay: Seconds until the job is due, None for now.
            lifetime: Seconds after which the job is not worth running, None for never.
            task_id: The task's id, None where it is derived from the row.
            unique: What no two jobs may have at a time, None for nothing.
            order: The line in which the job waits for its turn, None for none. Its place is its
                id's, also when it is due later.

        Returns:
            The job's id.

        Raises:
            SettingsError: The queue's name is too long.
            JobExists: A job has the unique key, and nothing was stored.
            MessageTooLarge, ServerFull, ReadOnlyServer, ConnectionLost: It was not stored; after
                ConnectionLost it may have been, as with any broker.
        """
        statement, values = self._insert(
            queue,
            message,
            priority=priority,
            delay=delay,
            lifetime=lifetime,
            task_id=task_id,
            unique=unique,
            order=order,
        )
        if order is not None and unique is None and statement == "put_waiting":
            return self._put_in_line(order, values)
        if unique is None:
            stored = retried(lambda: self._session.insert(self._sql[statement], values), self.name)
        else:
            stored = UniqueJobs(self._session, self._sql).insert(
                statement, values, must_store=unique.must_store
            )
        if stored.rows != 1:
            raise DatabaseError(f"The INSERT stored no row [{self._session.address}].")
        wake(self._session, stored.number)
        if statement == "put_waiting":
            self.admit([values["order_key"]])
        return stored.row_id

    def store(
        self,
        queue: str,
        message: str,
        *,
        unique: UniqueKey | None = None,
        **options: Any,  # noqa: ANN401 - as put
    ) -> None:
        """As ``put``, in the transaction that is open on the session; ``announce`` it afterwards.

        What the server rolls back takes the transaction with it, so nothing is tried again here.

        Raises:
            JobExists: A job has the unique key; the transaction is open still.
        """
        statement, values = self._insert(queue, message, unique=unique, **options)
        if unique is None:
            stored = self._session.insert(self._sql[statement], values)
        else:
            stored = UniqueJobs(self._session, self._sql).insert_once(statement, values)
        if stored.rows != 1:
            raise DatabaseError(f"The INSERT stored no row [{self._session.address}].")

    def put_each(self, queues: Mapping[str, float | None], message: str, **options: Any) -> None:  # noqa: ANN401 - as put
        """As ``put``, a job in each of the queues: in one transaction, all or none.

        Args:
            queues: Each with the lifetime of its job.
            message: The text.
            options: As in ``put``; the first queue's job gets the unique key.
        """
        left = dict(queues)
        if options.get("unique") is not None or len(left) == 1:
            # whoever tries again meets its own key, and stores nothing twice
            first = next(iter(left))
            self.put(first, message, lifetime=left.pop(first), **options)
            options["unique"] = None
        if left:
            retried(lambda: self._store_each(left, message, options))
        for queue in left:
            self.announce(queue, message, **options)

    def _store_each(
        self, queues: Mapping[str, float | None], message: str, options: Mapping[str, Any]
    ) -> None:
        with self._session.undivided():
            self._session.execute("BEGIN")
            try:
                for queue, lifetime in queues.items():
                    self.store(queue, message, lifetime=lifetime, **options)
                self._session.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(DatabaseError):
                    self._session.execute("ROLLBACK")
                raise

    def announce(
        self,
        queue: str,
        *_: object,
        delay: float | None = None,
        order: OrderKey | None = None,
        **__: object,
    ) -> None:
        """Wake whom a job concerns that ``store`` has stored, with its arguments; once committed.

        A consumer that wakes before that sees no job.
        """
        if delay is not None:
            self.ring_sweeper()
        elif order is not None:
            self.admit([order.text])
        else:
            self.ring(queue)

    def _insert(  # noqa: PLR0913 - as put
        self,
        queue: str,
        message: str,
        *,
        priority: int = LOWEST_PRIORITY,
        delay: float | None = None,
        lifetime: float | None = None,
        task_id: str | None = None,
        unique: UniqueKey | None = None,
        order: OrderKey | None = None,
    ) -> tuple[str, dict[str, Any]]:
        """The name of the INSERT of a job, and its parameters."""
        check_queue_name(queue)
        if unique is not None:
            check_key("unique_key", unique.text)
        if order is not None:
            check_key("order_key", order.text)
        values: dict[str, Any] = {
            "message": message,
            "queue": queue,
            "claim_order": HIGHEST_PRIORITY - priority,
            "delay": delay,
            "lifetime": lifetime,
            "task_id": task_id if task_id and len(task_id) <= TASK_ID_LIMIT else None,
            "unique_key": unique and unique.text,
            "order_key": None if order is None else order.text,
            "order_limit": None if order is None else order.limit,
        }
        if delay is not None:
            return "put_and_find_sweeper", {**values, "sweeper": self._names.sweeper}
        values |= zip(BELL_PARAMETERS, self._names.bells(queue), strict=True)
        return "put_and_find_sleeper" if order is None else "put_waiting", values

    def free_unique_keys(self, task_ids: Collection[str]) -> int:
        """Free the keys of jobs of these tasks that nobody has claimed; returns how many."""
        return UniqueJobs(self._session, self._sql).free_those_of(task_ids)

    def check_writable(self) -> None:
        """Do nothing when the server takes writes, or does not say so to this user.

        Raises:
            ReadOnlyServer: It takes none.
        """
        # a producer may have no more than INSERT
        with contextlib.suppress(MissingPrivilege):
            self._session.execute(self._sql["change_nothing"])

    # -- what no living consumer does -------------------------------------------------------------

    def look(self) -> Seen:
        """See what there is to do for nobody in particular, with one statement."""
        until_due = math.inf
        named: dict[str, set[str]] = {kind: set() for kind in _NAMED}
        for what, name, seconds in self._session.query(self._sql["look"]):
            if what in named:
                named[what].add(name)
            elif seconds is not None:
                until_due = float(seconds)
        ready = named["ready"] - named["paused"]
        return Seen(until_due, ready, named["owner"], named["consumer"])

    def release_claims_of(self, owner: str, max_deliveries: int = 0) -> int:
        """Give all claims of a dead consumer back; returns how many jobs that are.

        Those whose rows somebody has locked are left for the next time.

        Args:
            owner: The dead consumer's identity.
            max_deliveries: A job that had begun, for the so manieth time, becomes dead instead; 0
                for no limit.
        """
        released = 0
        while found := self._recover_some(owner, max_deliveries):
            released += found
        return released

    def _recover_some(self, owner: str, max_deliveries: int) -> int:
        found, queued = self._change_found(
            "find_claims_of",
            lambda rows: self._recovering(owner, max_deliveries, rows),
            owner=owner,
        )
        self._ring({row[1] for row in (*found, *queued)})
        return len(found)

    def _recovering(
        self, owner: str, max_deliveries: int, rows: Sequence[Any]
    ) -> tuple[list[str], dict[str, Any], list[str]]:
        """Statements that give claimed rows back or bury them, their values, and freed keys."""
        groups: dict[float, list[int]] = {}
        buried: list[Any] = []
        for row in rows:
            job_id, _, _, deliveries, had_begun = row
            if had_begun and max_deliveries and deliveries >= max_deliveries:
                buried.append(row)
            else:
                pause = pause_after(deliveries) if had_begun else 0.0
                groups.setdefault(pause, []).append(job_id)
        reason = f"Its worker died {in_each_delivery(max_deliveries)} (max_deliveries)."
        values: dict[str, Any] = {"owner": owner}
        graves = [{"ids": [row[0] for row in buried], "reason": reason}] if buried else []
        returns = [{"seconds": seconds, "ids": ids} for seconds, ids in groups.items()]
        statements = [
            *self._repeat("bury_these", graves, values),
            *self._repeat("recover", returns, values),
        ]
        return statements, values, [row[2] for row in buried if row[2] is not None]

    def promote(self) -> bool:
        """Queue scheduled jobs that are due, and ring; True when there may be more.

        Those that have an order key join its line. Those that somebody has locked are passed over.
        """
        found, queued = self._change_found(
            "find_due",
            lambda rows: (
                [self._sql["promote"]],
                {"ids": [row[0] for row in rows]},
                [row[2] for row in rows if row[2] is not None],
            ),
        )
        self._ring({row[1] for row in (*found, *queued)})
        return bool(found)

    def _change_found(
        self,
        find: str,
        change: Callable[[Sequence[Any]], tuple[list[str], dict[str, Any], list[str]]],
        **values: object,
    ) -> tuple[list[Any], list[Any]]:
        """Find rows, change them and let others go in their lines, in one transaction.

        What somebody else has locked is passed over, so that it delays nothing but itself.

        Args:
            find: The name of the statement that finds them.
            change: Gives statements that change the found rows, by id; their values; and the order
                keys in whose lines others may go now.
            **values: Those of the statement that finds.

        Returns:
            The changed rows, and id and queue of those that were let go.
        """
        if not self._way.is_locking:
            return self._change_each(self._session.query(self._sql[find], values), change)

        def once() -> tuple[list[Any], list[Any]]:
            with self._session.undivided():
                lock = f"BEGIN; {self._sql[find]} {self._sql['passing_over']}"
                _, found = self._session.script(lock, values)
                return found, self._apply(found, change) if found else self._commit()

        return retried(once, self.name)

    def _commit(self) -> list[Any]:
        self._session.execute("COMMIT")
        return []

    def _change_each(
        self,
        found: list[Any],
        change: Callable[[Sequence[Any]], tuple[list[str], dict[str, Any], list[str]]],
    ) -> tuple[list[Any], list[Any]]:
        """As ``_change_found`` on a server that cannot pass over rows: in halves, down to one."""

        def once(rows: list[Any]) -> list[Any]:
            with self._session.undivided():
                self._session.execute("BEGIN")
                return self._apply(rows, change)

        changed: list[Any] = []
        queued: list[Any] = []
        parts, waits = [found] if found else [], 0
        while parts and waits < _MOST_WAITS:
            rows = parts.pop(0)
            try:
                queued += retried(partial(once, rows), self.name, 0.0)
                changed += rows
            except RowsLocked:
                waits += 1
                half = len(rows) // 2
                # those behind are not to wait again for what is in front
                parts += [part for part in (rows[half:], rows[:half]) if part and half]
        return changed, queued

    def _apply(
        self,
        found: Sequence[Any],
        change: Callable[[Sequence[Any]], tuple[list[str], dict[str, Any], list[str]]],
    ) -> list[Any]:
        """Change found rows in the open transaction, and commit; what was let go."""
        statements, values, keys = change(found)
        if not keys:
            self._session.script("; ".join([*statements, "COMMIT"]), values)
            return []
        _, queued, rest = self._move_up(keys, values, *statements, passing_over=True)
        self._session.script("; ".join([*rest, "COMMIT"]), values)
        return queued

    def place(self, job_id: int, owner: str, placement: Placement) -> None:
        """Put a claimed job where it belongs, and ring there."""
        priority = placement.priority
        self._change(
            "place",
            id=job_id,
            owner=owner,
            queue=placement.queue,
            claim_order=None if priority is None else HIGHEST_PRIORITY - priority,
            delay=placement.delay,
        )
        if placement.delay is None:
            self.ring(placement.queue)
        else:
            self.ring_sweeper()

    def ring_each(self, queues: Collection[str]) -> None:
        """Wake one idle consumer of each of the queues."""
        ring_each(self._session, self._names, queues)

    def with_jobs(self, queues: Collection[str]) -> set[str]:
        """Those of the queues that have jobs to claim, asked for with one statement."""
        return Work(self._session, self.name).with_jobs(queues)

    def ring(self, queue: str) -> None:
        """Wake an idle consumer of the queue: something has come to it, or come back."""
        ring(self._session, self._names, queue)

    def remove_finished(self, retention: float) -> int:
        """Remove some jobs that were finished so many seconds ago; returns how many."""
        return self._delete("find_finished", "remove_finished", seconds=retention)

    def sum_up_throughput(self) -> None:
        """Add what was counted more than ten minutes ago to the totals of the queues."""
        if self._session.value(self._sql["has_old_throughput"]) is None:
            return
        with self._session.undivided():
            retried(lambda: self._session.script(self._sql["sum_up_throughput"]), self.name, 0.0)

    # -- queues -----------------------------------------------------------------------------------

    def count_ready(self, queue: str) -> int:
        """How many jobs of the queue wait. Slow on millions: counts them one by one."""
        return int(self._session.value(self._sql["count_ready"], {"queue": queue}))

    def purge(self, queue: str) -> int:
        """Delete all waiting jobs of the queue, save those that somebody has locked; how many."""
        purged = 0
        while gone := self._delete("find_unclaimed", "purge", queue=queue):
            purged += gone
        return purged

    def _delete(self, find: str, delete: str, **values: object) -> int:
        """Delete some of what there is to find and nobody has locked; zero when there is none."""
        found, _ = self._change_found(
            find,
            lambda rows: ([self._sql[delete]], {"ids": [row[0] for row in rows]}, []),
            **values,
        )
        return len(found)
