"""The job table: who puts jobs into it, and what becomes of those that nobody looks after."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any, NamedTuple

from celery_mysqllock.exceptions import DatabaseError, MissingPrivilege
from celery_mysqllock.jobs.bell import ring, wake
from celery_mysqllock.jobs.job import (
    HIGHEST_PRIORITY,
    LOWEST_PRIORITY,
    TASK_ID_LIMIT,
    Settlement,
    check_queue_name,
)
from celery_mysqllock.jobs.lock_names import BELL_PARAMETERS
from celery_mysqllock.jobs.ordered import OrderedJobs
from celery_mysqllock.jobs.retry import retried
from celery_mysqllock.jobs.unique import UniqueJobs, UniqueKey
from celery_mysqllock.mysql import used_by

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from celery_mysqllock.jobs.job import Placement
    from celery_mysqllock.jobs.lines import OrderKey


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
            stored = retried(lambda: self._session.insert(self._sql[statement], values))
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

        Args:
            owner: The dead consumer's identity.
            max_deliveries: A job that was delivered so often becomes dead instead; 0 for no limit.
        """
        queues = self._session.query(self._sql["queues_of"], {"owner": owner})
        released = 0
        if max_deliveries:
            reason = f"Its worker died in each of {max_deliveries} deliveries (max_deliveries)."
            released = self._bury_worn_out(owner, max_deliveries, reason)
        released += self._change("release_claims_of", owner=owner)
        self._ring({queue for (queue,) in queues})
        return released

    def promote(self) -> bool:
        """Queue scheduled jobs that are due, and ring; True when there may be more.

        Those that have an order key join its line.
        """
        found = self._session.query(self._sql["find_due"])
        values = {"ids": [row[0] for row in found]}
        keys = [row[2] for row in found if row[2] is not None]
        if keys:
            retried(lambda: self._admit(keys, values, self._sql["promote"]))
        elif found:
            self._change("promote", **values)
        self._ring({row[1] for row in found})
        return bool(found)

    def release(self, ids: Collection[int], owner: str) -> None:
        """Give claimed jobs back to their queues, and ring."""
        self.turn(Settlement(released=list(ids)), owner, None, 0)
        queues = self._session.query(self._sql["queues_with"], {"ids": list(ids)})
        self._ring({queue for (queue,) in queues})

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

    def ring(self, queue: str) -> None:
        """Wake an idle consumer of the queue: something has come to it, or come back."""
        ring(self._session, self._names, queue)

    def ring_sweeper(self) -> None:
        """Wake the sweeper: something was scheduled."""
        wake(self._session, used_by(self._session, self._names.sweeper))

    def remove_finished(self, retention: float) -> int:
        """Remove some jobs that were finished so many seconds ago; returns how many."""
        return self._delete("find_finished", "remove_finished", seconds=retention)

    def sum_up_throughput(self) -> None:
        """Add what was counted more than ten minutes ago to the totals of the queues."""
        if self._session.value(self._sql["has_old_throughput"]) is None:
            return
        with self._session.undivided():
            retried(lambda: self._session.script(self._sql["sum_up_throughput"]))

    # -- queues -----------------------------------------------------------------------------------

    def count_ready(self, queue: str) -> int:
        """How many jobs of the queue wait. Slow on millions: counts them one by one."""
        return int(self._session.value(self._sql["count_ready"], {"queue": queue}))

    def purge(self, queue: str) -> int:
        """Delete all waiting jobs of the queue; returns how many."""
        purged = 0
        while gone := self._delete("find_unclaimed", "purge", queue=queue):
            purged += gone
        return purged

    def _delete(self, find: str, delete: str, **values: object) -> int:
        """Delete what there is to find; zero when there is nothing, or others have changed it."""
        found = self._session.query(self._sql[find], values)
        return self._change(delete, ids=[row[0] for row in found]) if found else 0
