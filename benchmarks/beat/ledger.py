"""What the beats have sent, counted in the job table against the times at which ticks were due."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from celery_mysqllock.mysql import Session


@dataclass(frozen=True)
class Ledger:
    """The account of one run.

    Attributes:
        due: How many ticks were due, from the first that was sent to the last.
        sent: How many jobs there are.
        missed: How many ticks were due and have no job.
        doubled: How many jobs there are beyond one a tick.
        lateness: For each job the seconds from its due time to its INSERT, by the server's clock.
    """

    due: int
    sent: int
    missed: int
    doubled: int
    lateness: list[float]

    @property
    def is_right(self) -> bool:
        """Whether each tick that was due has one job."""
        return not self.missed and not self.doubled and self.sent == self.due


def read_ledger(session: Session, interval: float) -> Ledger:
    """Count the jobs that are there, of which no worker may have taken one.

    A job without a tick counts as doubled, and a time at which a tick was due and that has no job
    as missed, whatever the beats believe.
    """
    jobs = session.query(
        "SELECT JSON_UNQUOTE(JSON_EXTRACT(message, '$.headers.id')), "
        "UNIX_TIMESTAMP(created_at) + 0e0 FROM jobs ORDER BY id"
    )
    ticks = {
        task_id: float(due)
        for task_id, due in session.query(
            "SELECT task_id, UNIX_TIMESTAMP(due_at) + 0e0 FROM jobs_ticks"
        )
    }
    times = [ticks[task_id] for task_id, _ in jobs if task_id in ticks]
    places = {round((at - min(times)) / interval) for at in times}
    due = max(places) + 1
    return Ledger(
        due=due,
        sent=len(jobs),
        missed=due - len(places),
        doubled=len(jobs) - len(places),
        lateness=[at - ticks[task_id] for task_id, at in jobs if task_id in ticks],
    )
