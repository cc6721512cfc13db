"""Claims: taking jobs out of the table for a consumer, and settling them, in few transactions."""

from __future__ import annotations

import contextlib
import logging
import random
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from celery_mysqllock.exceptions import ConnectionLost, MySQLLockError, RowsLocked, TransientError
from celery_mysqllock.jobs.bell import ring_each, wake
from celery_mysqllock.jobs.counted import counted
from celery_mysqllock.jobs.ephemeral import table_names
from celery_mysqllock.jobs.job import ClaimedJob, Settlement
from celery_mysqllock.jobs.legacy import among_older_programs
from celery_mysqllock.jobs.lines import next_in_lines, slots
from celery_mysqllock.jobs.lock_names import LockNames
from celery_mysqllock.jobs.reason import fitting
from celery_mysqllock.jobs.retry import PATIENCE, retried
from celery_mysqllock.jobs.taking import way_to_take
from celery_mysqllock.jobs.throughput import Throughput
from celery_mysqllock.mysql import Session, Statements, used_by
from celery_mysqllock.settings import check_identifier

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from celery_mysqllock.jobs.job import Aside

logger = logging.getLogger(__name__)

# Where the order key stands in a row that was claimed.
# How often an old server is waited for in one go.
_MOST_WAITS = 4


class _Claim(NamedTuple):
    """What is to be claimed, as in ``Claims.turn``."""

    owner: str
    queue: str | None
    limit: int
    starts: int | None

    @property
    def is_one(self) -> bool:
        return self.queue is not None and self.limit > 0


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

    def turn(  # noqa: PLR0913 - the last ones are named at the call
        self,
        settled: Settlement,
        owner: str,
        queue: str | None,
        limit: int,
        *,
        starts: int | None = 0,
        passing_over: bool = False,
        patience: float = PATIENCE,
    ) -> list[ClaimedJob]:
        """Settle claimed jobs and claim others, in one transaction and two round trips.

        Each claim is fenced by its owner: what somebody else has meanwhile is not touched. Where
        ordered jobs have ended, the next of their keys are queued in the same transaction.

        Args:
            settled: What is to become of jobs that were claimed before.
            owner: The consumer's identity.
            queue: The queue to claim from, None to claim nothing.
            limit: Most jobs to claim.
            starts: How many of them begin at once, so that their delivery counts; None for all.
                One that has come back from a dead consumer does so only in the case of None.
            passing_over: Whether to leave the next of a key alone while somebody else has its row
                or its line locked; the sweeper lets it go then. What was counted is written later.
            patience: Seconds for which rows are waited for that somebody else has locked.

        Returns:
            The claimed jobs, the first in line first.

        Raises:
            RowsLocked: Somebody else has locked what is to be settled; see ``locked_among``.
        """
        ended = self._throughput.take(settled)
        if passing_over:
            self._throughput.put_back(ended)
            ended = {}
        claim = _Claim(owner, queue, limit, starts)

        def once(counted: Mapping[str, int]) -> tuple[list[ClaimedJob], set[str]]:
            return self._turn_beside_others(
                claim, lambda one: self._turn(settled, one, counted, passing_over), patience
            )

        try:
            claimed, queued = once(ended)
        except (ConnectionLost, TransientError):
            self._throughput.put_back(ended)
            raise
        except MySQLLockError as error:
            if not ended:
                raise
            # for people only: a table of counts that is missing or forbidden holds up no job
            claimed, queued = once({})
            self._throughput.give_up(error)
        except BaseException:
            self._throughput.put_back(ended)
            raise
        self._throughput.note(claimed)
        self._ring(queued)
        return claimed

    def _turn_beside_others(
        self,
        claim: _Claim,
        turn: Callable[[_Claim], tuple[list[ClaimedJob], set[str]]],
        patience: float,
    ) -> tuple[list[ClaimedJob], set[str]]:
        """As ``turn``; a claim is made while no older program takes jobs."""
        if not claim.is_one:
            return retried(lambda: turn(claim._replace(limit=0)), self.name, patience)
        with among_older_programs(self._session, self._legacy_lock) as may_claim:
            one = claim if may_claim else claim._replace(limit=0)
            return retried(lambda: turn(one), self.name, patience)

    def keep_alive(self, owner: str) -> None:
        """Give a sign of life on the session; with it goes what has been counted last."""
        if self._throughput.is_pending:
            # when somebody else has it locked, it is written later
            with contextlib.suppress(RowsLocked):
                self.turn(Settlement(), owner, None, 0, patience=0.0)
        else:
            self._session.ping()

    def claim(self, queue: str, limit: int, owner: str) -> list[ClaimedJob]:
        """Claim up to so many jobs of the queue, the first in line first; all of them begin.

        What has expired is not among them, and is gone.
        """
        while True:
            jobs = self.turn(Settlement(), owner, queue, limit, starts=None)
            expired = [job.id for job in jobs if job.has_expired]
            if expired:
                self.ack(expired, owner)
            worth_it = [job for job in jobs if not job.has_expired]
            if worth_it or not expired:
                return worth_it

    def ack(self, ids: Collection[int], owner: str) -> None:
        """The jobs are done: their rows go, or stay as finished where they are retained."""
        keys = self._order_keys(ids)
        self.turn(Settlement(acked=list(ids), ended_keys=keys), owner, None, 0)

    def bury(self, job_id: int, owner: str, reason: str) -> None:
        """Keep a claimed job as dead, with the reason."""
        keys = self._order_keys([job_id])
        self.turn(Settlement(buried=[(job_id, reason)], ended_keys=keys), owner, None, 0)

    def put_aside(self, job: Aside, owner: str) -> None:
        """Give a claimed job back to its queue after a while, in the same place."""
        started = [job.job_id] if job.counts else []
        self.turn(Settlement(started=started, put_aside=[job]), owner, None, 0)
        if job.seconds:
            self.ring_sweeper()
        else:
            self._ring_for([job.job_id])

    def release(self, ids: Collection[int], owner: str) -> None:
        """Give claimed jobs back to their queues as they were, and ring."""
        self.turn(Settlement(released=list(ids)), owner, None, 0)
        self._ring_for(ids)

    def _ring_for(self, ids: Collection[int]) -> None:
        queues = self._session.query(self._sql["queues_with"], {"ids": list(ids)})
        self._ring({queue for (queue,) in queues})

    def ring_sweeper(self) -> None:
        """Wake the sweeper: something was scheduled."""
        wake(self._session, used_by(self._session, self._names.sweeper))

    def release_others(self, kept: Collection[int], owner: str) -> int:
        """Give back all that the owner has claimed, save these jobs; returns how many."""
        return self._change("release_others", owner=owner, kept=[0, *kept])

    def locked_among(self, ids: Collection[int]) -> set[int]:
        """Those of the jobs whose rows somebody else has locked just now."""
        if not ids:
            return set()
        exist, values = self._sql["exist"], {"ids": list(ids)}
        if not self._way.is_locking:
            return self._waited_for(ids)
        with self._session.undivided():
            _, there, free, _ = self._session.script(
                f"BEGIN; {exist}; {exist} {self._sql['passing_over']}; COMMIT", values
            )
        return {row[0] for row in there} - {row[0] for row in free}

    def skips_locked(self, other: Session) -> bool:
        """Whether claims are safe: one session's locked rows are passed over by another one.

        There are servers that speak MySQL's protocol, and take no notice of SKIP LOCKED or of all
        that it stands behind.

        Args:
            other: Another session with the same server.
        """
        if not self._way.is_locking:
            return True
        with other.undivided():
            _, locked = other.script(f"BEGIN; {self._sql['lock_any_line']}")
            values = {"slots": [row[0] for row in locked]}
            seen = self._session.query(self._sql["lock_free_lines"], values) if locked else []
            other.execute("COMMIT")
        return not seen

    def _waited_for(self, ids: Collection[int]) -> set[int]:
        """As ``locked_among``, on a server that cannot pass over rows: wait for each.

        After some that are locked the rest are taken for locked: others of them the next time.
        """
        locked: set[int] = set()
        left = random.sample(list(ids), len(ids))
        while left and len(locked) < _MOST_WAITS:
            try:
                self._session.query(f"{self._sql['exist']} FOR UPDATE", {"ids": [left[-1]]})
            except RowsLocked:
                locked.add(left[-1])
            left.pop()
        return locked.union(left)

    def _turn(
        self,
        settled: Settlement,
        claim: _Claim,
        ended: Mapping[str, int],
        passing_over: bool,  # noqa: FBT001 - as in turn
    ) -> tuple[list[ClaimedJob], set[str]]:
        """The claimed jobs, and the queues of jobs that are queued now and not among them."""
        values: dict[str, Any] = {
            **claim._asdict(),
            "limit": self._way.widened(claim.limit),
        }
        script = ["BEGIN", *self._settle(settled, values), *self._add_throughput(ended, values)]
        # an old server would wait: the sweeper does that instead
        moves_up = settled.ended_keys and (self._way.is_locking or not passing_over)
        with self._session.undivided():
            queued: list[Any] = []
            if moves_up:
                keys = list(settled.ended_keys.values())
                results, queued, script = self._move_up(
                    keys, values, *script, passing_over=passing_over
                )
                self._check(settled, results)
            if claim.is_one:
                script.append(self._sql[self._way.find()])
            if not (claim.is_one and self._way.is_locking):
                script.append("COMMIT")
            results = self._session.script("; ".join(script), values)
            if not moves_up:
                self._check(settled, results)
            if not claim.is_one:
                return [], {row[1] for row in queued}
            rows = results[-1 if self._way.is_locking else -2]
            claimed = self._take(rows, {**values, "limit": claim.limit})
        taken = {job.id for job in claimed}
        return claimed, {row[1] for row in queued if row[0] not in taken}

    def _settle(self, settled: Settlement, values: dict[str, Any]) -> list[str]:
        statements = []
        for name, ids in _lists(settled):
            if ids:
                values[f"{name}_ids"] = ids
                done = "finish" if name == "ack" and self._retains else name
                statements.append(self._sql[done].replace("%(ids)s", f"%({name}_ids)s"))
        buried = [{"id": job_id, "reason": fitting(reason)} for job_id, reason in settled.buried]
        aside = [
            {
                "id": job.job_id,
                "seconds": job.seconds,
                "counts": job.counts,
                "is_unknown": job.is_unknown,
            }
            for job in settled.put_aside
        ]
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
        # those that have begun may have been counted before
        first = 2 if settled.started else 1
        asked = [len(ids) for ids in (settled.acked, settled.released) if ids]
        asked += [1] * (len(settled.buried) + len(settled.put_aside))
        missing = sum(asked) - sum(results[first : first + len(asked)])
        if missing:
            logger.warning(
                "Of %s settled, %d had been given back while this consumer seemed dead, and may "
                "run again.",
                *(counted(sum(asked), "job"), missing),
            )

    def _take(self, found: list[Any], values: dict[str, Any]) -> list[ClaimedJob]:
        """The claimed jobs."""
        rows = self._way.take(self._session, self._sql, found, values)
        started = set(values["started"])
        # under the queue that was asked for: a row may spell it with blanks at its end
        return [
            replace(
                ClaimedJob(*row[:-1]),
                queue=str(values["queue"]),
                is_started=row[0] in started,
                has_expired=bool(row[-1]),
            )
            for row in rows
        ]

    def _admit(
        self,
        keys: Sequence[str],
        values: dict[str, Any],
        *statements: str,
        passing_over: bool = False,
    ) -> tuple[list[Any], list[Any]]:
        """Run statements and queue the next jobs of the keys, in one transaction; as ``_move_up``.

        Returns:
            What each of the statements has returned; and id and queue of the jobs queued now.
        """
        with self._session.undivided():
            results, queued, rest = self._move_up(
                keys, values, "BEGIN", *statements, passing_over=passing_over
            )
            self._session.script("; ".join([*rest, "COMMIT"]), values)
        return results[1:], queued

    def _move_up(
        self,
        keys: Sequence[str],
        values: dict[str, Any],
        *statements: str,
        passing_over: bool = False,
    ) -> tuple[list[Any], list[Any], list[str]]:
        """Run statements that begin a transaction and end jobs, and find whose turn it is then.

        Args:
            keys: The order keys of the ended jobs, each as often as it may have a free place.
            values: The values of the statements, and from here on those of the rest.
            *statements: They come first.
            passing_over: As in ``turn``, on a server that can.

        Returns:
            What each of the statements has returned; id and queue of the jobs whose turn it is; and
            the statements that are left to queue them, for the next script in the transaction.
        """
        passing_over = passing_over and self._way.is_locking
        script = [*statements, self._sql["lock_lines"]]
        values["slots"] = slots(keys)
        results: list[Any] = []
        queued: list[Any] = []
        counts = Counter(keys)
        if passing_over:
            script[-1] = self._sql["lock_free_lines"]
            *results, free = self._session.script("; ".join(script), values)
            script = []
            counts = Counter(key for key in keys if (slots([key])[0],) in free)
        while counts:
            find, those = next_in_lines(self._sql, list(counts))
            *done, found = self._session.script("; ".join([*script, find]), {**values, **those})
            results = results or done[: len(statements)]
            if found and passing_over:
                found = self._unlocked(found)
            queued += found
            if not found:
                return results, queued, []
            values["next_ids"] = [row[0] for row in found]
            script = [self._sql["queue_next"]]
            counts -= Counter(set(counts))
        return results, queued, script

    def _unlocked(self, found: Sequence[Any]) -> list[Any]:
        """Those of the found rows that nobody else has locked; they are locked now."""
        lock = f"{self._sql['exist']} {self._sql['passing_over']}"
        free = self._session.query(lock, {"ids": [row[0] for row in found]})
        return [row for row in found if (row[0],) in free]

    def _order_keys(self, ids: Collection[int]) -> dict[int, str]:
        """The order keys of those of the jobs that have one, by their ids."""
        if not ids:
            return {}
        return dict(self._session.query(self._sql["order_keys_with"], {"ids": list(ids)}))

    def _ring(self, queues: Collection[str]) -> None:
        ring_each(self._session, self._names, queues)

    def _change(self, statement: str, **values: Any) -> int:  # noqa: ANN401 - SQL values
        return retried(lambda: self._session.execute(self._sql[statement], values), self.name)


def _lists(settled: Settlement) -> tuple[tuple[str, list[int]], ...]:
    return (
        ("start", settled.started),
        ("ack", settled.acked),
        ("release", settled.released),
    )
