"""The list of living consumers, for people to look at."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from celery_mysqllock.jobs.ephemeral import table_names
from celery_mysqllock.jobs.retry import retried
from celery_mysqllock.mysql import Statements
from celery_mysqllock.settings import check_identifier

if TYPE_CHECKING:
    from collections.abc import Iterable

    from celery_mysqllock.mysql import Session

_NAME_LIMIT = 255


class Registry:
    """The consumers and their queues.

    Args:
        session: An open session.
        table: The job table's name.
    """

    def __init__(self, session: Session, table: str = "jobs") -> None:
        self._session = session
        name = check_identifier("table", table)
        self._sql = Statements(__package__, "registry.sql", **table_names(name))

    def add(self, identity: str, name: str, queues: Iterable[str]) -> None:
        """Add a consumer.

        Args:
            identity: Its identity.
            name: Its name for people.
            queues: The queues that it consumes from.
        """
        self._change("add", identity, name=name[:_NAME_LIMIT], queues=_written(queues))

    def set_queues(self, identity: str, queues: Iterable[str]) -> None:
        """Replace the consumer's queues."""
        self._change("set_queues", identity, queues=_written(queues))

    def remove(self, identity: str) -> bool:
        """Remove a consumer that has ended; False when it was not on the list."""
        return bool(self._change("remove", identity))

    def _change(self, statement: str, identity: str, **values: Any) -> int:  # noqa: ANN401 - SQL values
        parameters = {"identity": identity, **values}
        return retried(lambda: self._session.execute(self._sql[statement], parameters))


def _written(queues: Iterable[str]) -> str:
    return json.dumps(sorted(queues), ensure_ascii=False)
