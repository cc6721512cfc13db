"""Ordered jobs: how they get into the line of their key, and who moves it up besides their ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery_mysqllock.exceptions import DatabaseError
from celery_mysqllock.jobs.bell import wake
from celery_mysqllock.jobs.claims import Claims
from celery_mysqllock.jobs.lines import slots
from celery_mysqllock.jobs.retry import retried

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from celery_mysqllock.jobs.lines import OrderKey

# Keys with waiting jobs that are looked at in one go, and places of one key that are filled.
_KEYS, _PLACES = 5000, 100


class OrderedJobs(Claims):
    """The job table as the place of lines; ``Claims`` says what it takes."""

    def order_keys(self, ids: Collection[int]) -> list[str]:
        """The order keys of those of the jobs that have one, each as often as there are such."""
        return list(self._order_keys(ids).values())

    def admit(self, keys: Sequence[str], *, passing_over: bool = False) -> None:
        """Queue the next jobs of these order keys, as far as their limits allow, and ring.

        For who has stored jobs as waiting, or has ended some, and has committed that.

        Args:
            keys: The order keys, each as often as it may have a free place.
            passing_over: As in ``turn``.
        """
        if keys:
            _, queued = retried(lambda: self._admit(keys, {}, passing_over=passing_over), self.name)
            self._ring({row[1] for row in queued})

    def fill_gaps(self, after: str = "") -> str:
        """Queue the next of each order key that has fewer active jobs than it may have.

        Who ends a job lets the next go; this is for jobs that were deleted or changed by hand.

        Args:
            after: Look at the keys that follow this one.

        Returns:
            The last key that was looked at, to go on after it; nothing when it was the last of all.
        """
        rows = self._session.query(self._sql["find_waiting"], {"after": after, "limit": _KEYS})
        keys = [key for key, free in rows for _ in range(min(free, _PLACES))]
        self.admit(keys, passing_over=True)
        return rows[-1][0] if len(rows) == _KEYS else ""

    def _put_in_line(self, order: OrderKey, values: dict[str, Any]) -> int:
        """Store a job in its line, and ring when it is its turn; the job's id."""
        values |= {"slot": slots([order.text])[0], "too_many": order.limit + 1}
        statements = (self._sql["put_in_line"], self._sql["queue_new"])
        script = "; ".join(["BEGIN", *statements, "COMMIT", self._sql["find_sleeper"]])

        def put() -> list[Any]:
            with self._session.undivided():
                return self._session.script(script, values)

        _, stored, queued, _, ((row_id, sleeper),) = retried(put, self.name)
        if stored != 1:
            raise DatabaseError(f"The INSERT stored no row [{self._session.address}].")
        if queued:
            wake(self._session, sleeper)
        return int(row_id)
