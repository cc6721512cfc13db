"""The active beat: it knows the schedule, sees when it is edited, and sends what is due."""

from __future__ import annotations

import heapq
import time
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from celery.beat import SchedulingError
from celery.schedules import crontab
from celery.utils.log import get_logger
from kombu.exceptions import OperationalError

from celery_mysqllock.beat.due import first_due, next_due
from celery_mysqllock.beat.entries import counts_for, read, written
from celery_mysqllock.exceptions import DatabaseError
from celery_mysqllock.jobs.schedule import Tick, aware, naive

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery
    from celery.beat import ScheduleEntry

    from celery_mysqllock.beat.sending import Sending
    from celery_mysqllock.jobs import Periodic, Schedule

logger = get_logger(__name__)

# Seconds between two looks for edits, at least; and between two times that old ticks are deleted.
_LOOK, _PRUNE = 1.0, 60.0
# Ticks that are sent in one transaction, at most.
_AT_ONCE = 100
# Seconds after which a task is tried again that could not be sent.
_AGAIN = 2.0
# What the clocks of two servers may differ by.
_AHEAD = timedelta(seconds=60)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Plan:
    """A task that is sent, and when.

    Attributes:
        row: Its row.
        entry: What Celery sends for it.
        last: The tick before, or the time from which ticks are counted.
        due_at: The next tick.
        send_at: When to send it, on the server's clock: then, or later after a failure.
    """

    row: Periodic
    entry: ScheduleEntry
    last: datetime
    due_at: datetime
    send_at: datetime

    def counts_as(self, row: Periodic) -> bool:
        """Whether nobody but the beat has changed what the next tick counts from."""
        last = row.last_due_at
        return last is not None and aware(last) == self.last and row.counts_for == counts_for(row)


class Active:
    """The schedule in the hands of the active beat. The server's clock says what is due.

    Args:
        app: The application.
        schedule: The schedule, on the session that holds the lock.
        sending: Sends.
        check_lock: Raises an error when the lock is not held any more.
        catch_up: How late a tick is still sent.
    """

    def __init__(
        self,
        app: Celery,
        schedule: Schedule,
        sending: Sending,
        check_lock: Callable[[], None],
        catch_up: timedelta,
    ) -> None:
        self._app = app
        self._schedule = schedule
        self._sending = sending
        self._check_lock = check_lock
        self._catch_up = catch_up
        self._configured: dict[str, ScheduleEntry] = {}
        self._plans: dict[str, Plan] = {}
        # when to send whose; of a task that has another plan by now it says nothing
        self._line: list[tuple[datetime, str]] = []
        self._seen: tuple[int, int] | None = None
        self._refused: dict[str, Periodic] = {}
        # what the server's clock has said, and when, on the clock of time.monotonic
        self._heard = (schedule.now(), time.monotonic())
        self._looked = self._pruned = -_PRUNE

    @property
    def entries(self) -> dict[str, ScheduleEntry]:
        """What is sent, by name."""
        return {name: plan.entry for name, plan in self._plans.items()}

    def take_over(self, configured: dict[str, ScheduleEntry]) -> None:
        """Write the configuration's tasks into the table, and see what the last beat has left.

        Raises:
            DatabaseError: The server cannot be asked, or refuses.
        """
        self._schedule.open()
        for tick in self._schedule.unsure():
            logger.warning(
                "The last beat died while it sent %s. It may not have been sent, and is not sent "
                "again.",
                tick,
            )
            self._schedule.mark_not_sent(tick, "Its beat died; it may have been sent or not.")
        rows = [written(entry) for entry in configured.values()]
        self._configured = dict(zip([row.name for row in rows], configured.values(), strict=True))
        self._schedule.take_over(rows)

    def turn(self) -> float:
        """Send some of the ticks that are due; seconds until there is more to do.

        Raises:
            DatabaseError, LockError: The lock is lost, or the server cannot be asked.
        """
        if time.monotonic() - self._looked >= _LOOK:
            self._look()
        due: list[Plan] = []
        now = self._now()
        while len(due) < _AT_ONCE and (plan := self._first()) and plan.send_at <= now:
            due.append(plan)
            heapq.heappop(self._line)
        if due:
            self._send_all(due)
            return 0.0
        plan = self._first()
        return float("inf") if plan is None else (plan.send_at - now).total_seconds()

    def _first(self) -> Plan | None:
        """The one that is to be sent next."""
        while self._line:
            send_at, name = self._line[0]
            plan = self._plans.get(name)
            if plan is not None and plan.send_at == send_at:
                return plan
            heapq.heappop(self._line)
        return None

    def _keep(self, plan: Plan) -> None:
        self._plans[plan.row.name] = plan
        heapq.heappush(self._line, (plan.send_at, plan.row.name))

    def _now(self) -> datetime:
        server, at = self._heard
        return server + timedelta(seconds=time.monotonic() - at)

    # -- the table --------------------------------------------------------------------------------

    def _look(self) -> None:
        """See what has been edited since the last look, and what time it is."""
        now, *seen = self._schedule.look()
        self._heard = (now, time.monotonic())
        if tuple(seen) != self._seen:
            self._read()
            self._seen = (seen[0], seen[1])
        self._looked = time.monotonic()
        if self._looked - self._pruned >= _PRUNE:
            self._schedule.prune()
            self._pruned = self._looked

    def _look_again(self) -> None:
        """Read the whole table at the next turn."""
        self._looked, self._seen = -_LOOK, None

    def _read(self) -> None:
        rows = {row.name: row for row in self._schedule.all()}
        self._refused = {name: row for name, row in self._refused.items() if name in rows}
        # what new ones count from is written in one transaction
        with self._schedule.transaction():
            plans = {name: self._plan(row) for name, row in rows.items()}
        self._plans = {name: plan for name, plan in plans.items() if plan is not None}
        self._line = [(plan.send_at, name) for name, plan in self._plans.items()]
        heapq.heapify(self._line)

    def _plan(self, row: Periodic) -> Plan | None:
        """When the row is due next; None when it is disabled or cannot be sent."""
        if not row.enabled:
            if row.counts_for is not None:
                # what is due until somebody enables it again is not owed
                self._schedule.count_from(row.name, None, None)
            return None
        if self._refused.get(row.name) == row:
            return None
        try:
            return self._plan_enabled(row)
        # whatever is wrong with one row, or with Celery's understanding of it: the others go on
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            logger.error("The periodic task %r is not sent: %s", row.name, error)  # noqa: TRY400
            self._refused[row.name] = row
            return None

    def _plan_enabled(self, row: Periodic) -> Plan:
        old = self._plans.get(row.name)
        is_same = old is not None and old.row[:7] == row[:7]
        if old is not None and is_same and old.counts_as(row):
            return replace(old, row=row)
        entry = (
            old.entry
            if old is not None and is_same
            else read(row, self._configured.get(row.name), self._app)
        )
        if row.last_due_at is not None and aware(row.last_due_at) > self._now() + _AHEAD:
            logger.warning(
                "The periodic task %r was last due at %s UTC, which is yet to come: some clock was "
                "wrong, or somebody wrote it. It counts from now on.",
                *(row.name, row.last_due_at),
            )
            row = row._replace(last_due_at=None)
        if row.last_due_at is None or row.counts_for != counts_for(row):
            last = self._now()
            # first, so that a schedule that cannot be followed is not counted either
            due_at = next_due(entry.schedule, last)
            self._schedule.count_from(row.name, last, counts_for(row))
        else:
            last = aware(row.last_due_at)
            due_at = self._due_after(entry, last)
        return Plan(row, entry, last, due_at, due_at)

    def _due_after(self, entry: ScheduleEntry, last: datetime) -> datetime:
        now, kind = self._now(), entry.schedule
        due_at = first_due(kind, last, now, self._catch_up)
        deadline = self._app.conf.beat_cron_starting_deadline
        if deadline is not None and isinstance(kind, crontab):
            oldest = now - timedelta(seconds=deadline)
            if due_at < oldest:
                return next_due(kind, oldest - _MICROSECOND)
        return due_at

    # -- what is due ------------------------------------------------------------------------------

    def _send_all(self, plans: list[Plan]) -> None:
        ticks = [Tick(plan.row.name, plan.due_at) for plan in plans]
        together = len(plans) > 1 and self._sending.send_together(
            [(plan.entry, tick) for plan, tick in zip(plans, ticks, strict=True)]
        )
        for plan, tick in zip(plans, ticks, strict=True):
            if together:
                self._go_on(plan, tick, mine=True)
            else:
                self._send(plan, tick)

    def _send(self, plan: Plan, tick: Tick) -> None:
        try:
            mine = self._sending.send(plan.entry, tick)
        except (DatabaseError, OperationalError, SchedulingError) as error:
            self._check_lock()
            logger.error(  # noqa: TRY400 - the message says it; a traceback would not
                "%s cannot be sent now, and is tried again in %g seconds: %s", tick, _AGAIN, error
            )
            self._keep(replace(plan, send_at=self._now() + timedelta(seconds=_AGAIN)))
            return
        self._go_on(plan, tick, mine=mine)

    def _go_on(self, plan: Plan, tick: Tick, *, mine: bool) -> None:
        """Wait for a task's next tick; this one was sent, or turned out not to be ours."""
        if not mine:
            self._check_lock()
            self._schedule.pass_over(tick)
            self._look_again()
            return
        self._say_what_is_left_out(plan)
        try:
            due_at = self._due_after(plan.entry, plan.due_at)
        except ValueError:
            # the next look refuses it
            self._look_again()
            return
        row = plan.row._replace(
            total_run_count=plan.row.total_run_count + 1, last_due_at=naive(plan.due_at)
        )
        self._keep(Plan(row, plan.entry, plan.due_at, due_at, due_at))

    def _say_what_is_left_out(self, plan: Plan) -> None:
        first = next_due(plan.entry.schedule, plan.last)
        if first < plan.due_at:
            logger.warning(
                "No beat could send %s from %s UTC on. It goes on with what was due at %s UTC; "
                "what was due before is left out (mysqllock_beat_catch_up).",
                *(plan.row.name, f"{first:%Y-%m-%d %H:%M:%S}", f"{plan.due_at:%Y-%m-%d %H:%M:%S}"),
            )
