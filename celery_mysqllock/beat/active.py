"""The active beat: it plans each task, notices edits of the table, and sends what is due."""

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

    from celery_mysqllock.beat.dispatch import Dispatch
    from celery_mysqllock.jobs import PeriodicTask, Schedule

logger = get_logger(__name__)

# Least seconds between two checks for edits, and between two deletions of old ticks.
_CHECK, _PRUNE = 1.0, 60.0
# Most ticks of one transaction.
_BATCH = 100
# Seconds until a task that could not be sent is tried again.
_RETRY = 2.0
# How far the clocks of two servers may differ.
_AHEAD = timedelta(seconds=60)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Plan:
    """A periodic task and its next tick.

    Attributes:
        row: The task's row.
        entry: What Celery sends for it.
        last: The tick before, or the time from which ticks are counted.
        due_at: The next tick.
        send_at: When to send it, on the server's clock: ``due_at``, or later after a failure.
    """

    row: PeriodicTask
    entry: ScheduleEntry
    last: datetime
    due_at: datetime
    send_at: datetime

    def counts_as(self, row: PeriodicTask) -> bool:
        """Whether the row still counts from the tick that this beat knows as the last."""
        last = row.last_due_at
        return last is not None and aware(last) == self.last and row.counts_for == counts_for(row)


class ActiveBeat:
    """What the beat that holds the lock does. The server's clock decides what is due.

    Args:
        app: The application.
        schedule: The schedule, on the session that holds the lock.
        dispatch: Sends ticks.
        check_lock: Raises an error if the lock is lost.
        catch_up: How late a tick may still be sent.
    """

    def __init__(
        self,
        app: Celery,
        schedule: Schedule,
        dispatch: Dispatch,
        check_lock: Callable[[], None],
        catch_up: timedelta,
    ) -> None:
        self._app = app
        self._schedule = schedule
        self._dispatch = dispatch
        self._check_lock = check_lock
        self._catch_up = catch_up
        self._configured: dict[str, ScheduleEntry] = {}
        self._plans: dict[str, Plan] = {}
        # by time; an item that differs from its task's plan is out of date
        self._queue: list[tuple[datetime, str]] = []
        self._version: tuple[int, int] | None = None
        self._refused: dict[str, PeriodicTask] = {}
        # the server's time, and the time.monotonic() at which it was read
        self._clock = (schedule.now(), time.monotonic())
        self._checked = self._pruned = -_PRUNE

    @property
    def entries(self) -> dict[str, ScheduleEntry]:
        """The tasks that are sent, by name."""
        return {name: plan.entry for name, plan in self._plans.items()}

    def start(self, configured: dict[str, ScheduleEntry]) -> None:
        """Write the configuration's tasks into the table; report what the last beat left open.

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
        self._schedule.configure(rows)

    def send_due(self) -> float:
        """Send a batch of ticks that are due; seconds until the next is.

        Raises:
            DatabaseError, LockError: The lock is lost, or the server cannot be asked.
        """
        if time.monotonic() - self._checked >= _CHECK:
            self._check_for_edits()
        due: list[Plan] = []
        now = self._now()
        while len(due) < _BATCH and (plan := self._first()) and plan.send_at <= now:
            due.append(plan)
            heapq.heappop(self._queue)
        if due:
            self._send_batch(due)
            return 0.0
        plan = self._first()
        return float("inf") if plan is None else (plan.send_at - now).total_seconds()

    def _first(self) -> Plan | None:
        """The plan that is due first."""
        while self._queue:
            send_at, name = self._queue[0]
            plan = self._plans.get(name)
            if plan is not None and plan.send_at == send_at:
                return plan
            heapq.heappop(self._queue)
        return None

    def _keep(self, plan: Plan) -> None:
        self._plans[plan.row.name] = plan
        heapq.heappush(self._queue, (plan.send_at, plan.row.name))

    def _now(self) -> datetime:
        server, at = self._clock
        return server + timedelta(seconds=time.monotonic() - at)

    # -- the table --------------------------------------------------------------------------------

    def _check_for_edits(self) -> None:
        """Read the server's clock, and the table if it was edited."""
        now, *version = self._schedule.look()
        self._clock = (now, time.monotonic())
        if tuple(version) != self._version:
            self._read_table()
            self._version = (version[0], version[1])
        self._checked = time.monotonic()
        if self._checked - self._pruned >= _PRUNE:
            self._schedule.prune()
            self._pruned = self._checked

    def _reread(self) -> None:
        """Read the whole table before the next tick."""
        self._checked, self._version = -_CHECK, None

    def _read_table(self) -> None:
        rows = {row.name: row for row in self._schedule.all()}
        self._refused = {name: row for name, row in self._refused.items() if name in rows}
        # one transaction for the times from which new tasks count
        with self._schedule.transaction():
            plans = {name: self._plan(row) for name, row in rows.items()}
        self._plans = {name: plan for name, plan in plans.items() if plan is not None}
        self._queue = [(plan.send_at, name) for name, plan in self._plans.items()]
        heapq.heapify(self._queue)

    def _plan(self, row: PeriodicTask) -> Plan | None:
        """The plan of a row, None if the row is disabled or cannot be sent."""
        if not row.enabled:
            if row.counts_for is not None:
                # ticks are not owed for the time in which it is disabled
                self._schedule.count_from(row.name, None, None)
            return None
        if self._refused.get(row.name) == row:
            return None
        try:
            return self._plan_enabled(row)
        # one row that Celery does not understand must not stop the others
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            logger.error("The periodic task %r is not sent: %s", row.name, error)  # noqa: TRY400
            self._refused[row.name] = row
            return None

    def _plan_enabled(self, row: PeriodicTask) -> Plan:
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
                "The periodic task %r was last due at %s UTC, which is in the future: a clock was "
                "wrong, or the row was edited. It counts from now on.",
                *(row.name, row.last_due_at),
            )
            row = row._replace(last_due_at=None)
        if row.last_due_at is None or row.counts_for != counts_for(row):
            last = self._now()
            # before the write, so that an impossible schedule is not written
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

    def _send_batch(self, plans: list[Plan]) -> None:
        ticks = [Tick(plan.row.name, plan.due_at) for plan in plans]
        together = len(plans) > 1 and self._dispatch.send_together(
            [(plan.entry, tick) for plan, tick in zip(plans, ticks, strict=True)]
        )
        for plan, tick in zip(plans, ticks, strict=True):
            if together:
                self._go_on(plan, tick, mine=True)
            else:
                self._send(plan, tick)

    def _send(self, plan: Plan, tick: Tick) -> None:
        try:
            mine = self._dispatch.send(plan.entry, tick)
        except (DatabaseError, OperationalError, SchedulingError) as error:
            self._check_lock()
            logger.error(  # noqa: TRY400 - a traceback would add nothing
                "%s cannot be sent now, and is tried again in %g seconds: %s", tick, _RETRY, error
            )
            self._keep(replace(plan, send_at=self._now() + timedelta(seconds=_RETRY)))
            return
        self._go_on(plan, tick, mine=mine)

    def _go_on(self, plan: Plan, tick: Tick, *, mine: bool) -> None:
        """Plan the task's next tick.

        Args:
            plan: The plan of this tick.
            tick: The tick.
            mine: Whether this beat sent it; False if another beat had claimed it.
        """
        if not mine:
            self._check_lock()
            self._schedule.pass_over(tick)
            self._reread()
            return
        self._warn_of_skipped(plan)
        try:
            due_at = self._due_after(plan.entry, plan.due_at)
        except ValueError:
            # the next read of the table refuses it
            self._reread()
            return
        row = plan.row._replace(
            total_run_count=plan.row.total_run_count + 1, last_due_at=naive(plan.due_at)
        )
        self._keep(Plan(row, plan.entry, plan.due_at, due_at, due_at))

    def _warn_of_skipped(self, plan: Plan) -> None:
        first = next_due(plan.entry.schedule, plan.last)
        if first < plan.due_at:
            logger.warning(
                "No beat could send %s from %s UTC on. It goes on with what was due at %s UTC; "
                "what was due before is left out (mysqllock_beat_catch_up).",
                *(plan.row.name, f"{first:%Y-%m-%d %H:%M:%S}", f"{plan.due_at:%Y-%m-%d %H:%M:%S}"),
            )
