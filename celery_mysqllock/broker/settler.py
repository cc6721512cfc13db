"""Settles claimed jobs of a channel that has no fetcher."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery_mysqllock.jobs.job import Deferral, given_back, worn_out

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_mysqllock.jobs.claims import Claims


class TableSettler:
    """Does what a ``Fetcher`` does with claimed jobs, each in a transaction of its own.

    Args:
        claims: Settles the jobs.
        owner: The consumer's identity.
        max_deliveries: How often a job may be given back before it is dead; 0 for no limit.
    """

    def __init__(self, claims: Claims, owner: str, max_deliveries: int) -> None:
        self._claims = claims
        self._owner = owner
        self._max_deliveries = max_deliveries

    def ack(self, job_id: int) -> None:
        """The job is done."""
        self._claims.ack([job_id], self._owner)

    def release(self, job_id: int) -> None:
        """The job goes back to its queue at once."""
        self.defer(job_id, 0.0)

    def requeue(self, job_id: int, why: Callable[[], str], *, deliveries: int = 0) -> None:
        """The job has failed and goes back, after a pause that grows; or is dead after too often.

        Args:
            job_id: The job's id.
            why: Tells the reason for that, in the latter case.
            deliveries: How often it has begun to run before.
        """
        deferral = given_back(job_id, deliveries + 1, self._max_deliveries)
        if deferral is None:
            self.bury(job_id, worn_out(self._max_deliveries, why()))
        else:
            self._claims.defer(deferral, self._owner)

    def defer(self, job_id: int, seconds: float, *, is_unknown: bool = False) -> None:
        """The job goes back to its queue after so many seconds; as in ``Deferral``."""
        self._claims.defer(Deferral(job_id, seconds, is_unknown=is_unknown), self._owner)

    def bury(self, job_id: int, reason: str) -> None:
        """The job is dead, for this reason; or was, and this is a better reason."""
        self._claims.bury(job_id, self._owner, reason)

    explain = bury
