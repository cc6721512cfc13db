"""The job table through one session: what publishes, claims, orders and maintains its jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery_mysqllock.jobs.claim_strategies import strategy_for
from celery_mysqllock.jobs.claims import Claims
from celery_mysqllock.jobs.ephemeral import table_names
from celery_mysqllock.jobs.events import Unobserved
from celery_mysqllock.jobs.lock_names import LockNames
from celery_mysqllock.jobs.maintenance import Maintenance
from celery_mysqllock.jobs.ordering import Ordering
from celery_mysqllock.jobs.publisher import Publisher
from celery_mysqllock.jobs.ringer import Ringer
from celery_mysqllock.jobs.unique import UniqueKeys
from celery_mysqllock.jobs.work import Work
from celery_mysqllock.mysql import Statements
from celery_mysqllock.settings import check_identifier

if TYPE_CHECKING:
    from celery_mysqllock.jobs.events import Observer
    from celery_mysqllock.jobs.throughput import Throughput
    from celery_mysqllock.mysql import Session


class JobTable:
    """The roles of one session, put together; each stands in its own module.

    Args:
        session: An open session.
        table: The table's name.
        names: The names of the table's locks; None asks the server for them.
        claim_method: How to claim; see ``BrokerSettings``.
        retains: Whether acked jobs stay as finished.
        legacy_lock: The lock round which older programs take jobs, None where there are none.
        throughput: Counts the jobs that end; shared by all that claim for one owner.
        observer: Is told what happens to jobs.

    Attributes:
        name: The table's name.
        publisher: Stores jobs.
        claims: Claims jobs for a consumer, and settles them.
        ordering: Unblocks jobs of an order key.
        unique_keys: Stores jobs that have a unique key, and frees keys.
        maintenance: Promotes, recovers, removes and counts jobs that no living consumer has.
        ringer: Wakes idle consumers.
        work: Says which queues have something to claim.

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
        observer: Observer | None = None,
    ) -> None:
        observer = observer or Unobserved()
        sql = job_statements(table)
        names = LockNames.of(session, table) if names is None else names
        strategy = strategy_for(claim_method, session.server, sql)
        can_skip_locked = strategy.can_skip_locked
        self.name = table
        self.ringer = Ringer(session, names)
        self.work = Work(session, table)
        self.unique_keys = UniqueKeys(session, sql)
        self.ordering = Ordering(session, sql, names, can_skip_locked=can_skip_locked)
        self.publisher = Publisher(
            session, sql, names, ordering=self.ordering, unique_keys=self.unique_keys
        )
        self.claims = Claims(
            session,
            sql,
            names,
            ordering=self.ordering,
            strategy=strategy,
            retains=retains,
            legacy_lock=legacy_lock,
            throughput=throughput,
            observer=observer,
        )
        self.maintenance = Maintenance(
            session,
            sql,
            names,
            ordering=self.ordering,
            can_skip_locked=can_skip_locked,
            observer=observer,
        )


def job_statements(table: str, database: str | None = None) -> Statements:
    """The statements of ``jobs.sql``.

    Args:
        table: The job table's name.
        database: The database that it is in, None for the session's own.

    Raises:
        SettingsError: The table's name is none.
    """
    name = check_identifier("table", table)
    return Statements(__package__, "jobs.sql", database, jobs=name, **table_names(name))
