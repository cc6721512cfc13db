"""Claims: taking jobs out of the table for a consumer, and settling them, in few transactions."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from celery_mysqllock.jobs.bell import ring
from celery_mysqllock.jobs.ephemeral import table_names
from celery_mysqllock.jobs.job import ClaimedJob, Settlement
from celery_mysqllock.jobs.legacy import among_older_programs
from celery_mysqllock.jobs.lines import next_in_lines, slots
from celery_mysqllock.jobs.lock_names import LockNames
from celery_mysqllock.jobs.reason import fitting
from celery_mysqllock.jobs.retry import retried
from celery_mysqllock.jobs.taking import way_to_take
from celery_mysqllock.jobs.throughput import Throughput
from celery_mysqllock.mysql import Session, Statements
from celery_mysqllock.settings import check_identifier

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

logger = logging.getLogger(__name__)


class Claims:
    """What one session claims of a job table.

    A statement that the server rolled back (deadlock, lock wait) is sent again. Each claim is
    fenced by its owner: what another consumer has meanwhile is never touched.

    Args:
        session: An open session.
        table: The table's name.
        names: The names of the table's locks; None asks the server for them.
        claim_method: How to claim; see ``BrokerSettings``.
        retains: Whether acked jobs stay as finished.
        legacy_lock: The lock round which older programs take jobs, None where there are none.
        throughput: Counts the jobs that end; shared by all that claim for one owner.
        database: The database that the table is in, None for the session's own.

    Raises:
        SettingsError: The table's name is none.
    """

    def __init__(  # noqa: PLR0913 - each is named at the call
        self,
        session: Session,
        table: str = "jobs",
        *,
        names: LockNames | None = None,
        claim_method: str = "auto",
        retains: bool = False,
        legacy_lock: str | None = None,
        throughput: Throughput | None = None,
        database: str | None = None,
    ) -> None:
        self.name = check_identifier("table", table)
        self._session = session
        self._names = LockNames.of(session, self.name) if names is None else names
        self._sql = Statements(
            __package__, "jobs.sql", database, jobs=self.name, **table_names(self.name)
        )
        self._way = way_to_take(claim_method, session.server)
        self._retains = retains
        self._legacy_lock = legacy_lock
        self._throughput = Throughput() if throughput is None else throughput

    def turn(
        self, settled: Settlement, owner: str, queue: str | None, limit: int
    ) -> list[ClaimedJob]:
        """Settle claimed jobs and claim others, in one transaction and two round trips.

        Each claim is fenced by its owner: what somebody else has meanwhile is not touched. Where
        ordered jobs have ended, the next of their keys are queued in the same transaction.

        Args:
            settled: What is to become of jobs that were claimed before.
            owner: The consumer's identity.
            queue: The queue to claim from, None to claim nothing.
            limit: Most jobs to claim.

        Returns:
            The claimed jobs, the first in line first.
        """
        ended = self._throughput.take(settled)
        try:
            claimed, queued = self._turn_beside_others(settled, owner, queue, limit, ended)
        except BaseException:
            self._throughput.put_back(ended)
            raise
        self._throughput.note(claimed)
        self._ring(queued)
        return claimed

    def _turn_beside_others(
        self,
        settled: Settlement,
        owner: str,
        queue: str | None,
        limit: int,
        ended: Mapping[str, int],
    ) -> tuple[list[ClaimedJob], set[str]]:
        """As ``_turn``; a claim is made while no older program takes jobs."""
        if queue is None or limit <= 0:
            return retried(lambda: self._turn(settled, owner, None, 0, ended))
        with among_older_programs(self._session, self._legacy_lock) as may_claim:
            most = limit if may_claim else 0
            return retried(lambda: self._turn(settled, owner, queue, most, ended))

    def keep_alive(self, owner: str) -> None:
        """Give a sign of life on the session; with it goes what has been counted last."""
        if self._throughput.is_pending:
            self.turn(Settlement(), owner, None, 0)
        else:
            self._session.ping()

    def claim(self, queue: str, limit: int, owner: str) -> list[ClaimedJob]:
        """Claim up to so many jobs of the queue, the first in line first."""
        return self.turn(Settlement(), owner, queue, limit)

    def ack(self, ids: Collection[int], owner: str) -> None:
        """The jobs are done: their rows go, or stay as finished where they are retained."""
        keys = self._order_keys("order_keys_with", ids=list(ids)) if ids else []
        self.turn(Settlement(acked=list(ids), ended_keys=keys), owner, None, 0)

    def bury(self, job_id: int, owner: str, reason: str) -> None:
        """Keep a claimed job as dead, with the reason."""
        keys = self._order_keys("order_keys_with", ids=[job_id])
        self.turn(Settlement(buried=[(job_id, reason)], ended_keys=keys), owner, None, 0)

    def put_aside(self, job_id: int, owner: str, seconds: float) -> None:
        """Give a claimed job back to its queue after so many seconds, in the same place."""
        self.turn(Settlement(put_aside=[(job_id, seconds)]), owner, None, 0)

    def release_others(self, kept: Collection[int], owner: str) -> int:
        """Give back all that the owner has claimed, save these jobs; returns how many."""
        return self._change("release_others", owner=owner, kept=[0, *kept])

    def _turn(
        self,
        settled: Settlement,
        owner: str,
        queue: str | None,
        limit: int,
        ended: Mapping[str, int],
    ) -> tuple[list[ClaimedJob], set[str]]:
        """The claimed jobs, and the queues of jobs that are queued now and not among them."""
        values: dict[str, Any] = {"owner": owner, "queue": queue, "limit": limit}
        script = ["BEGIN", *self._settle(settled, values), *self._add_throughput(ended, values)]
        claims = queue is not None and limit > 0
        with self._session.undivided():
            queued: list[Any] = []
            if settled.ended_keys:
                results, queued, script = self._move_up(settled.ended_keys, values, *script)
                self._check(settled, results)
            if claims:
                script.append(self._sql[self._way.find()])
            if not (claims and self._way.is_locking):
                script.append("COMMIT")
            results = self._session.script("; ".join(script), values)
            if not settled.ended_keys:
                self._check(settled, results)
            if not claims:
                return [], {row[1] for row in queued}
            rows = results[-1 if self._way.is_locking else -2]
            claimed, queued_later = self._take(rows, values)
        taken = {job.id for job in claimed}
        return claimed, {row[1] for row in (*queued, *queued_later) if row[0] not in taken}

    def _settle(self, settled: Settlement, values: dict[str, Any]) -> list[str]:
        statements = []
        for name, ids in _lists(settled):
            if ids:
                values[f"{name}_ids"] = ids
                done = "finish" if name == "ack" and self._retains else name
                statements.append(self._sql[done].replace("%(ids)s", f"%({name}_ids)s"))
        buried = [{"id": job_id, "reason": fitting(reason)} for job_id, reason in settled.buried]
        aside = [{"id": job_id, "seconds": seconds} for job_id, seconds in settled.put_aside]
        statements += self._repeat("bury", buried, values)
        statements += self._repeat("put_aside", aside, values)
        return statements

    def _add_throughput(self, ended: Mapping[str, int], values: dict[str, Any]) -> list[str]:
        counts = [{"queue": queue, "ended": jobs} for queue, jobs in ended.items()]
        return self._repeat("add_throughput", counts, values)

    def _repeat(
        self, name: str, each: Sequence[Mapping[str, Any]], values: dict[str, Any]
    ) -> list[str]:
        """A statement once for each, with parameters of its own, which are added to the values."""
        statements = []
        for number, own in enumerate(each):
            statement = self._sql[name]
            for parameter, value in own.items():
                renamed = f"{name}_{parameter}{number}"
                values[renamed] = value
                statement = statement.replace(f"%({parameter})s", f"%({renamed})s")
            statements.append(statement)
        return statements

    def _check(self, settled: Settlement, results: list[Any]) -> None:
        asked = [len(ids) for _, ids in _lists(settled) if ids]
        asked += [1] * (len(settled.buried) + len(settled.put_aside))
        missing = sum(asked) - sum(results[1 : 1 + len(asked)])
        if missing:
            logger.warning(
                "%d of %d settled jobs were not this consumer's any more: they were given back "
                "while it seemed dead, and may run again.",
                missing,
                sum(asked),
            )

    def _take(self, found: list[Any], values: dict[str, Any]) -> tuple[list[ClaimedJob], list[Any]]:
        """The claimed jobs, and what is queued instead of those that had expired."""
        rows = self._way.take(self._session, self._sql, found, values)
        expired = [row for row in rows if row[-1]]
        queued = self._drop(expired, values) if expired else []
        # under the queue that was asked for: a row may spell it with blanks at its end
        jobs = [ClaimedJob(*row[:-1]) for row in rows if not row[-1]]
        return [replace(job, queue=str(values["queue"])) for job in jobs], queued

    def _drop(self, expired: list[Any], values: dict[str, Any]) -> list[Any]:
        """Delete claimed jobs that are not worth running; the jobs that are queued instead."""
        values["ids"] = [row[0] for row in expired]
        keys = [row[-2] for row in expired if row[-2] is not None]
        if not keys:
            self._session.execute(self._sql["ack"], values)
            return []
        _, queued = self._admit(keys, values, self._sql["ack"])
        return queued

    def _admit(
        self, keys: Sequence[str], values: dict[str, Any], *statements: str
    ) -> tuple[list[Any], list[Any]]:
        """Run statements and queue the next jobs of the keys, in one transaction.

        Returns:
            What each of the statements has returned; and id and queue of the jobs queued now.
        """
        with self._session.undivided():
            results, queued, rest = self._move_up(keys, values, "BEGIN", *statements)
            self._session.script("; ".join([*rest, "COMMIT"]), values)
        return results[1:], queued

    def _move_up(
        self, keys: Sequence[str], values: dict[str, Any], *statements: str
    ) -> tuple[list[Any], list[Any], list[str]]:
        """Run statements that begin a transaction and end jobs, and find whose turn it is then.

        Args:
            keys: The order keys of the ended jobs, each as often as it may have a free place.
            values: The values of the statements, and from here on those of the rest.
            *statements: They come first.

        Returns:
            What each of the statements has returned; id and queue of the jobs whose turn it is; and
            the statements that are left to queue them, for the next script in the transaction.
        """
        script = [*statements, self._sql["lock_lines"]]
        values["slots"] = slots(keys)
        results: list[Any] = []
        queued: list[Any] = []
        counts = Counter(keys)
        while counts:
            find, those = next_in_lines(self._sql, list(counts))
            *done, found = self._session.script("; ".join([*script, find]), {**values, **those})
            results = results or done[: len(statements)]
            queued += found
            if not found:
                return results, queued, []
            values["next_ids"] = [row[0] for row in found]
            script = [self._sql["queue_next"]]
            counts -= Counter(set(counts))
        return results, queued, script

    def _order_keys(self, statement: str, **values: Any) -> list[str]:  # noqa: ANN401 - SQL values
        return [row[0] for row in self._session.query(self._sql[statement], values)]

    def _ring(self, queues: Collection[str]) -> None:
        for queue in queues:
            ring(self._session, self._names, queue)

    def _change(self, statement: str, **values: Any) -> int:  # noqa: ANN401 - SQL values
        return retried(lambda: self._session.execute(self._sql[statement], values))


def _lists(settled: Settlement) -> tuple[tuple[str, list[int]], ...]:
    return (
        ("ack", settled.acked),
        ("release", settled.released),
        ("unclaim", settled.unclaimed),
    )
