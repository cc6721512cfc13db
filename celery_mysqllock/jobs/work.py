"""Which of many queues have jobs or messages: one short statement for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery_mysqllock.jobs.ephemeral import table_names
from celery_mysqllock.mysql import Statements
from celery_mysqllock.settings import check_identifier

if TYPE_CHECKING:
    from collections.abc import Collection

    from celery_mysqllock.mysql import Session


class Work:
    """Looks into queues, and changes nothing.

    Args:
        session: An open session.
        table: The job table's name.

    Raises:
        SettingsError: The table's name is none.
    """

    def __init__(self, session: Session, table: str = "jobs") -> None:
        name = check_identifier("table", table)
        self._session = session
        self._sql = Statements(__package__, "work.sql", jobs=name, **table_names(name))

    def is_any(
        self, jobs: Collection[str], messages: Collection[str]
    ) -> tuple[str, tuple[str, ...]]:
        """SQL that is true when there is something to take, and its parameters.

        Args:
            jobs: Queues in which a job counts.
            messages: Queues in which a message beside the job table counts.
        """
        kinds = (("with_jobs", jobs), ("with_messages", messages))
        asked = [(kind, queues) for kind, queues in kinds if queues]
        parts = [f"EXISTS ({self._about(kind, queues)})" for kind, queues in asked]
        return " OR ".join(parts) or "FALSE", tuple(one for _, queues in asked for one in queues)

    def with_jobs(self, queues: Collection[str]) -> set[str]:
        """Those of the queues that have jobs to take."""
        return self._among("with_jobs", queues)

    def with_messages(self, queues: Collection[str]) -> set[str]:
        """Those of the queues that have messages beside the job table."""
        return self._among("with_messages", queues)

    def _among(self, kind: str, queues: Collection[str]) -> set[str]:
        if not queues:
            return set()
        found = self._session.query(self._about(kind, queues), tuple(queues))
        return {str(row[0]) for row in found}

    def _about(self, kind: str, queues: Collection[str]) -> str:
        named = " UNION ALL ".join([self._sql["named"]] * len(queues))
        return self._sql[kind].replace("%(named)s", named)
