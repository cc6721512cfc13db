"""Claims: taking jobs out of the table for a consumer, and settling them, in few transactions."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from celery_mysqllock.jobs.ephemeral import table_names
from celery_mysqllock.jobs.job import ClaimedJob, Settlement
from celery_mysqllock.jobs.legacy import among_older_programs
from celery_mysqllock.jobs.retry import retried
from celery_mysqllock.mysql import Session, Statements
from celery_mysqllock.settings import check_identifier

if TYPE_CHECKING:
    from collections.abc import Collection

logger = logging.getLogger(__name__)


class Claims:
    """What one session claims of a job table.

    A statement that the server rolled back (deadlock, lock wait) is sent again. Each claim is
    fenced by its owner: what another consumer has meanwhile is never touched.

    Args:
        session: An open session.
        table: The table's name.
        namespace: The first part of the names of the bells.
        claim_method: ``skip_locked``, ``compare_and_set``, or ``auto`` for what the server can.
        retains: Whether acked jobs stay as finished.
        legacy_lock: The lock round which older programs take jobs, None where there are none.

    Raises:
        SettingsError: The table's name is none.
    """

    def __init__(  # noqa: PLR0913 - each is named at the call
        self,
        session: Session,
        table: str = "jobs",
        *,
        namespace: str | None = None,
        claim_method: str = "auto",
        retains: bool = False,
        legacy_lock: str | None = None,
    ) -> None:
        self.name = check_identifier("table", table)
        self._session = session
        self._namespace = namespace or session.address.database
        self._sql = Statements(__package__, "jobs.sql", jobs=self.name, **table_names(self.name))
        self._skips_locked = claim_method == "skip_locked" or (
            claim_method == "auto" and session.server.has_skip_locked
        )
        self._retains = retains
        self._legacy_lock = legacy_lock

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
        if queue is None or limit <= 0:
            return retried(lambda: self._turn(settled, owner, None, 0))
        with among_older_programs(self._session, self._legacy_lock) as may_claim:
            return retried(lambda: self._turn(settled, owner, queue, limit if may_claim else 0))

    def claim(self, queue: str, limit: int, owner: str) -> list[ClaimedJob]:
        """Claim up to so many jobs of the queue, the first in line first."""
        return self.turn(Settlement(), owner, queue, limit)

    def ack(self, ids: Collection[int], owner: str) -> None:
        """The jobs are done: their rows go, or stay as finished where they are retained."""
        self.turn(Settlement(acked=list(ids)), owner, None, 0)

    def bury(self, job_id: int, owner: str, reason: str) -> None:
        """Keep a claimed job as dead, with the reason."""
        self.turn(Settlement(buried=[(job_id, reason)]), owner, None, 0)

    def release_others(self, kept: Collection[int], owner: str) -> int:
        """Give back all that the owner has claimed, save these jobs; returns how many."""
        return self._change("release_others", owner=owner, kept=[0, *kept])

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
        for name, ids in _lists(settled):
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
        asked = [len(ids) for _, ids in _lists(settled) if ids]
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
        expired = [row[0] for row in rows if row[6]]
        if expired:
            self._session.execute(self._sql["ack"], {**values, "ids": expired})
        return [ClaimedJob(*row[:6]) for row in rows if not row[6]]

    def _change(self, statement: str, **values: Any) -> int:  # noqa: ANN401 - SQL values
        return retried(lambda: self._session.execute(self._sql[statement], values))


def _lists(settled: Settlement) -> tuple[tuple[str, list[int]], ...]:
    return (
        ("ack", settled.acked),
        ("release", settled.released),
        ("unclaim", settled.unclaimed),
    )
