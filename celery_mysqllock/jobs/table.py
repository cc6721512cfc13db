"""The job table and what may be done with a job: put, claim, ack, release, bury."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from celery_mysqllock.exceptions import DatabaseError, SettingsError, TransientError
from celery_mysqllock.jobs.bell import ring, ringing, wake
from celery_mysqllock.mysql import Session, Statements, lock_name
from celery_mysqllock.settings import check_identifier

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import datetime

    T = TypeVar("T")

logger = logging.getLogger(__name__)

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
        created_at: When it was stored, on the server's clock in UTC.
    """

    id: int
    message: str
    queue: str
    deliveries: int
    created_at: datetime


@dataclass
class Settlement:
    """What is to become of claimed jobs.

    Attributes:
        acked: Ids of jobs that are done.
        released: Ids of jobs that go back to their queues.
        buried: Ids of jobs that are dead, each with the reason.
    """

    acked: list[int] = field(default_factory=list)
    released: list[int] = field(default_factory=list)
    buried: list[tuple[int, str]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.acked or self.released or self.buried)

    def __add__(self, later: Settlement) -> Settlement:
        return Settlement(
            self.acked + later.acked, self.released + later.released, self.buried + later.buried
        )


class JobTable:
    """The job table, through one session.

    A statement that the server rolled back (deadlock, lock wait) is sent again. Each claim is
    fenced by its owner: what another consumer has meanwhile is never touched.

    Args:
        session: An open session.
        table: The table's name.
        namespace: The first part of the names of the bells.
        claim_method: ``skip_locked``, ``compare_and_set``, or ``auto`` for what the server can.
        retains: Whether acked jobs stay as finished.

    Raises:
        SettingsError: The table's name is none.
    """

    def __init__(
        self,
        session: Session,
        table: str = "jobs",
        *,
        namespace: str | None = None,
        claim_method: str = "auto",
        retains: bool = False,
    ) -> None:
        self.name = check_identifier("table", table)
        self._session = session
        self._namespace = namespace or session.address.database
        self._sql = Statements(__package__, "jobs.sql", jobs=self.name)
        self._skips_locked = claim_method == "skip_locked" or (
            claim_method == "auto" and session.server.has_skip_locked
        )
        self._retains = retains

    # -- producing --------------------------------------------------------------------------------

    def put(
        self,
        queue: str,
        message: str,
        *,
        priority: int = LOWEST_PRIORITY,
        delay: float | None = None,
        lifetime: float | None = None,
    ) -> int:
        """Store a message as a job and ring for an idle consumer, in one round trip.

        When this returns, the job is committed.

        Args:
            queue: The queue's name, 255 characters at most.
            message: The text.
            priority: 0 to 9, the greater first.
            delay: Seconds until the job is due, None for now.
            lifetime: Seconds after which the job is not worth running, None for never.

        Returns:
            The job's id.

        Raises:
            SettingsError: The queue's name is too long.
            MessageTooLarge, ServerFull, ReadOnlyServer, ConnectionLost: It was not stored; after
                ConnectionLost it may have been, as with any broker.
        """
        check_queue_name(queue)
        values = {
            "message": message,
            "queue": queue,
            "claim_order": HIGHEST_PRIORITY - priority,
            "delay": delay,
            "lifetime": lifetime,
        }
        sleeper, names = (
            ringing(self._namespace, queue)
            if delay is None
            else ("IS_USED_LOCK(%s)", [sweeper_lock(self._namespace)])
        )
        for number, name in enumerate(names):
            sleeper = sleeper.replace("%s", f"%(bell{number})s", 1)
            values[f"bell{number}"] = name
        script = f"{self._sql['put']}; SELECT LAST_INSERT_ID(), {sleeper}"
        stored, rung = self._retried(lambda: self._session.script(script, values))
        if stored != 1:
            raise DatabaseError(f"The INSERT stored no row [{self._session.address}].")
        job_id, connection_id = rung[0]
        wake(self._session, connection_id)
        return int(job_id)

    # -- consuming --------------------------------------------------------------------------------

    def turn(
        self, settled: Settlement, owner: str, queue: str | None, limit: int
    ) -> list[ClaimedJob]:
        """Settle claimed jobs and claim others, in one transaction and two round trips.

        Each claim is fenced by its owner: what somebody else has meanwhile is not touched.

        Args:
            settled: What is to become of jobs that were claimed before.
            owner: The consumer's identity.
            queue: The queue to claim from, None to claim nothing.
            limit: Most jobs to claim.

        Returns:
            The claimed jobs, the first in line first.
        """
        return self._retried(lambda: self._turn(settled, owner, queue, limit))

    def claim(self, queue: str, limit: int, owner: str) -> list[ClaimedJob]:
        """Claim up to so many jobs of the queue, the first in line first."""
        return self.turn(Settlement(), owner, queue, limit)

    def ack(self, ids: Collection[int], owner: str) -> None:
        """The jobs are done: their rows go, or stay as finished where they are retained."""
        self.turn(Settlement(acked=list(ids)), owner, None, 0)

    def release(self, ids: Collection[int], owner: str) -> None:
        """Give claimed jobs back to their queues."""
        self.turn(Settlement(released=list(ids)), owner, None, 0)

    def bury(self, job_id: int, owner: str, reason: str) -> None:
        """Keep a claimed job as dead, with the reason."""
        self.turn(Settlement(buried=[(job_id, reason)]), owner, None, 0)

    def _turn(
        self, settled: Settlement, owner: str, queue: str | None, limit: int
    ) -> list[ClaimedJob]:
        values: dict[str, Any] = {"owner": owner, "queue": queue, "limit": limit}
        script = ["BEGIN", *self._settle(settled, values)]
        claims = queue is not None and limit > 0
        if claims:
            script.append(self._sql["lock_oldest" if self._skips_locked else "find_oldest"])
        if not (claims and self._skips_locked):
            # compare and set needs no transaction: its candidates are not locked
            script.append("COMMIT")
        with self._session.undivided():
            results = self._session.script("; ".join(script), values)
            self._check(settled, results)
            if not claims:
                return []
            rows = results[-1 if self._skips_locked else -2]
            return self._take(rows, values)

    def _settle(self, settled: Settlement, values: dict[str, Any]) -> list[str]:
        statements = []
        for name, ids in (("ack", settled.acked), ("release", settled.released)):
            if ids:
                values[f"{name}_ids"] = ids
                done = "finish" if name == "ack" and self._retains else name
                statements.append(self._sql[done].replace("%(ids)s", f"%({name}_ids)s"))
        for number, (job_id, reason) in enumerate(settled.buried):
            values |= {f"id{number}": job_id, f"reason{number}": reason}
            statements.append(
                self._sql["bury"]
                .replace("%(id)s", f"%(id{number})s")
                .replace("%(reason)s", f"%(reason{number})s")
            )
        return statements

    def _check(self, settled: Settlement, results: list[Any]) -> None:
        asked = [len(ids) for ids in (settled.acked, settled.released) if ids]
        asked += [1] * len(settled.buried)
        missing = sum(asked) - sum(results[1 : 1 + len(asked)])
        if missing:
            logger.warning(
                "%d of %d settled jobs were not this consumer's any more: they were given back "
                "while it seemed dead, and may run again.",
                missing,
                sum(asked),
            )

    def _take(self, found: list[Any], values: dict[str, Any]) -> list[ClaimedJob]:
        if not found:
            if self._skips_locked:
                self._session.execute("COMMIT")
            return []
        values["ids"] = [row[0] for row in found]
        if self._skips_locked:
            self._session.script(f"{self._sql['mark_claimed']}; COMMIT", values)
            rows = found
        else:
            _, rows = self._session.script(
                f"{self._sql['take_queued']}; {self._sql['read_taken']}", values
            )
        expired = [row[0] for row in rows if row[5]]
        if expired:
            self._session.execute(self._sql["ack"], {**values, "ids": expired})
        return [ClaimedJob(*row[:5]) for row in rows if not row[5]]

    # -- what no living consumer does -------------------------------------------------------------

    def owners(self) -> set[str]:
        """The identities of all consumers that have claims."""
        return {row[0] for row in self._session.query(self._sql["owners"])}

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
            released = self._change(
                "bury_worn_out_claims_of",
                owner=owner,
                max_deliveries=max_deliveries,
                reason=reason,
            )
        released += self._change("release_claims_of", owner=owner)
        for (queue,) in queues:
            ring(self._session, self._namespace, queue)
        return released

    def promote(self) -> bool:
        """Queue scheduled jobs that are due, and ring; True when there may be more."""
        found = self._session.query(self._sql["find_due"])
        if found:
            self._change("promote", ids=[row[0] for row in found])
        for queue in {row[1] for row in found}:
            ring(self._session, self._namespace, queue)
        return bool(found)

    def seconds_until_due(self) -> float | None:
        """Seconds until the next scheduled job is due, None when there is none."""
        seconds = self._session.value(self._sql["seconds_until_due"])
        return None if seconds is None else max(0.0, float(seconds))

    def ring_for_ready(self) -> None:
        """Ring in each queue in which jobs wait: who inserted them may not have rung."""
        for (queue,) in self._session.query(self._sql["ready_queues"]):
            ring(self._session, self._namespace, queue)

    def remove_finished(self, retention: float) -> int:
        """Remove some jobs that were finished so many seconds ago; returns how many."""
        return self._change("remove_finished", seconds=retention)

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


def check_queue_name(queue: str) -> None:
    """Do nothing when a queue may have that name.

    Raises:
        SettingsError: It is too long.
    """
    if len(queue) > QUEUE_NAME_LIMIT:
        raise SettingsError(
            f"The queue name {queue[:40]!r}... has {len(queue)} characters; {QUEUE_NAME_LIMIT} are "
            "allowed."
        )


def sweeper_lock(namespace: str) -> str:
    """The name of the lock that the one sweeper of a namespace holds."""
    return lock_name(namespace, "sweeper")
