"""The periodic tasks in the database, and their ticks, each of which is claimed once."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from celery_mysqllock.exceptions import DatabaseError, TableMissing
from celery_mysqllock.jobs.ephemeral import table_names
from celery_mysqllock.jobs.migrate import Migrations
from celery_mysqllock.mysql import Session, Statements
from celery_mysqllock.settings import check_identifier

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

# Seconds for which the row of a due tick is kept. A second claim comes within seconds; after that
# the row is for people who want to see what was sent.
_KEPT = 86400
# Seconds to wait for a row that another session has locked. The other tasks wait meanwhile.
_LOCK_WAIT = 1


class PeriodicTask(NamedTuple):
    """A periodic task, as in the table. Times are in UTC, without a time zone.

    Attributes:
        name: Its name.
        task: The name of the task.
        schedule: Seconds, or the five fields of a crontab, as text.
        timezone: The time zone of the fields, None for the app's.
        args: A JSON array, or None.
        kwargs: A JSON object, or None.
        options: A JSON object, or None.
        enabled: Whether it is sent.
        from_config: Whether the app's configuration has it.
        last_due_at: The last tick; the next is counted from it.
        counts_for: The schedule and time zone that ``last_due_at`` belongs to.
        last_run_at: When it was last sent.
        total_run_count: How many times it was sent.
    """

    name: str
    task: str
    schedule: str
    timezone: str | None = None
    args: str | None = None
    kwargs: str | None = None
    options: str | None = None
    enabled: bool = True
    from_config: bool = False
    last_due_at: datetime | None = None
    counts_for: str | None = None
    last_run_at: datetime | None = None
    total_run_count: int = 0


class Tick(NamedTuple):
    """One time at which a periodic task is due.

    Attributes:
        name: The periodic task's name.
        due_at: When, with UTC as its time zone.
    """

    name: str
    due_at: datetime

    def __str__(self) -> str:
        return f"{self.name} due at {self.due_at:%Y-%m-%d %H:%M:%S.%f} UTC"


class Schedule:
    """The schedule's two tables, through the session that holds the beat's lock.

    When the session is lost, so are the lock and whatever the session has not committed: a beat
    that has lost its turn can claim no tick.

    Args:
        session: The session.
        table: The job table's name, with which the names of these tables begin.
        lock: The name of the lock that the session holds.

    Raises:
        SettingsError: The table's name is not an identifier.
    """

    def __init__(self, session: Session, table: str, lock: str) -> None:
        self._session = session
        self._lock = lock
        name = check_identifier("table", table)
        self._sql = Statements(__package__, "schedule.sql", jobs=name, **table_names(name))

    def open(self) -> None:
        """Wait at most a second for rows that another session has locked, from now on."""
        self._session.execute("SET SESSION innodb_lock_wait_timeout = %s", (_LOCK_WAIT,))

    def now(self) -> datetime:
        """The time by the server's clock."""
        return aware(self._session.value(self._sql["now"]))

    def look(self) -> tuple[datetime, int, int]:
        """The time by the server's clock; how many tasks there are, and a sum of their edits.

        Both stay the same when the beat alone has changed rows.
        """
        ((now, count, edits),) = self._session.query(self._sql["look"])
        return aware(now), int(count), int(edits)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit what the block does on the session together, or nothing."""
        with self._session.exclusive():
            self._session.execute("BEGIN")
            yield
            self._session.execute("COMMIT")

    # -- the periodic tasks -----------------------------------------------------------------------

    def all(self) -> list[PeriodicTask]:
        """All periodic tasks."""
        return [
            PeriodicTask(*row)._replace(enabled=bool(row[7]), from_config=bool(row[8]))
            for row in self._session.query(self._sql["all"])
        ]

    def configure(self, configured: Collection[PeriodicTask]) -> None:
        """Make the tasks from the configuration what it says now; other tasks stay."""
        known = {row.name: row for row in self.all()}
        names = [row.name for row in configured]
        with self._session.exclusive():
            self._session.execute("BEGIN")
            for row in configured:
                old = known.get(row.name)
                if old is None or row[:7] != old[:7] or not old.from_config:
                    self._session.execute(self._sql["store"], row._asdict())
            self._session.execute(self._sql["remove_others"], {"names": names or [""]})
            self._session.execute("COMMIT")

    def count_from(self, name: str, at: datetime | None, counts_for: str | None) -> None:
        """Count the ticks from that time on, for that schedule; None for not at all."""
        values = {"name": name, "at": None if at is None else naive(at), "counts_for": counts_for}
        self._session.execute(self._sql["count_from"], values)

    # -- the ticks --------------------------------------------------------------------------------

    @contextmanager
    def claim(self, tick: Tick) -> Iterator[bool]:
        """Claim the tick, and commit it with what the block does on the session, or nothing.

        The block gets whether the tick is this beat's. It is not when it was claimed before, when
        the task was disabled or deleted meanwhile, or when the lock is not held.

        Raises:
            TransientError: Another session has locked a row; try again.
        """
        values = {**self._values(tick), "lock": self._lock}
        with self._session.exclusive():
            _, claimed = self._session.script(f"BEGIN; {self._sql['claim']}", values)
            if claimed:
                self._session.execute(self._sql["advance"], values)
            yield bool(claimed)
            self._session.execute("COMMIT")

    def claim_all(self, ticks: Mapping[Tick, str | None]) -> None:
        """Claim ticks of different tasks, as sent, in a ``transaction`` that there is.

        Args:
            ticks: For each, the id of the task that is sent.

        Raises:
            DatabaseError: One of them is not this beat's, as ``claim`` says, and the transaction is
                to be rolled back.
        """
        names = [tick.name for tick in ticks]
        found = self._session.query(self._sql["lock_all"], {"names": names, "lock": self._lock})
        if len(found) != len(names):
            raise DatabaseError("A task was disabled or deleted, or the lock is not held.")
        values: dict[str, object] = {"names": names}
        for at, (tick, task_id) in enumerate(ticks.items()):
            values |= {f"name{at}": tick.name, f"due{at}": naive(tick.due_at), f"id{at}": task_id}
        places = range(len(names))
        rows = ", ".join(
            f"(%(name{at})s, %(due{at})s, UTC_TIMESTAMP(6), %(id{at})s)" for at in places
        )
        self._session.execute(self._sql["claim_all"].replace("%(rows)s", rows), values)
        cases = " ".join(f"WHEN %(name{at})s THEN %(due{at})s" for at in places)
        self._session.execute(self._sql["advance_all"].replace("%(cases)s", cases), values)

    def pass_over(self, tick: Tick) -> None:
        """Count on from a tick that was claimed before."""
        self._session.execute(self._sql["pass_over"], self._values(tick))

    def mark_sent(self, tick: Tick, task_id: str | None) -> None:
        """The claimed tick was sent."""
        self._session.execute(self._sql["mark_sent"], {**self._values(tick), "task_id": task_id})

    def mark_not_sent(self, tick: Tick, reason: str) -> None:
        """The claimed tick was not sent, and will not be."""
        self._session.execute(self._sql["mark_not_sent"], {**self._values(tick), "reason": reason})

    def unsure(self) -> list[Tick]:
        """Claimed ticks of which it is not known whether they were sent."""
        return [Tick(name, aware(at)) for name, at in self._session.query(self._sql["unsure"])]

    def prune(self) -> None:
        """Delete ticks that were due more than a day ago."""
        self._session.execute(self._sql["prune"], {"seconds": _KEPT})

    def _values(self, tick: Tick) -> dict[str, object]:
        return {"name": tick.name, "due_at": naive(tick.due_at)}


def check_schedule(session: Session, table: str) -> None:
    """Make sure that the tables of the schedule are there, and that this release works with them.

    Raises:
        TableMissing: They are not; the message says how to make them.
        TableMismatch: This release does not work with them.
    """
    try:
        Migrations(session, table).check()
    except TableMissing:
        raise TableMissing(
            f"There is no table {table_names(table)['schedule']} in {session.address}, where the "
            "beats keep their schedule. Make it with 'celery -A <app> mysqllock migrate'; when the "
            "broker is not MySQL, with 'mysqllock --url <mysqllock_url> migrate'."
        ) from None


def aware(at: datetime) -> datetime:
    """A time from the table, with its time zone."""
    return at.replace(tzinfo=UTC)


def naive(at: datetime) -> datetime:
    """A time as the table stores it."""
    return at.astimezone(UTC).replace(tzinfo=None)
