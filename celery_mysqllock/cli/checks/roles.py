"""The privileges of each role, as docs/how-to/privileges.md grants them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from celery_mysqllock.jobs.ephemeral import table_names

if TYPE_CHECKING:
    from collections.abc import Iterator

_PRODUCER = {
    "jobs": "INSERT",
    "bindings": "SELECT, INSERT",
    "exchanges": "SELECT, INSERT",
    "ephemeral_queues": "SELECT",
}
_ALL = "SELECT, INSERT, UPDATE, DELETE"

#: What each role needs on which tables.
ROLES: dict[str, dict[str, str]] = {
    "worker": {
        "jobs": _ALL,
        "order_locks": "SELECT, UPDATE",
        "bindings": "SELECT, INSERT, DELETE",
        "exchanges": "SELECT, INSERT, UPDATE",
        "ephemeral_queues": _ALL,
        "ephemeral_messages": "SELECT, INSERT, DELETE",
        "queues": "SELECT",
        "consumers": _ALL,
        "throughput": _ALL,
    },
    "producer": _PRODUCER,
    "unique-producer": {
        **_PRODUCER,
        "jobs": "INSERT, "
        "SELECT (id, queue, task_id, job_status, unique_key, order_key, order_limit, owner, "
        "created_at, expires_at, finished_at, deferred_since), "
        "UPDATE (unique_key, job_status, ready_at)",
        "order_locks": "SELECT, UPDATE",
    },
    "beat": {"schedule": _ALL, "ticks": _ALL, **_PRODUCER},
    "looking": {
        "jobs": "SELECT",
        "bindings": "SELECT",
        "queues": "SELECT",
        "consumers": "SELECT",
        "throughput": "SELECT",
    },
    "acting": {
        "jobs": "SELECT, UPDATE, DELETE",
        "order_locks": "SELECT, UPDATE",
        "bindings": "SELECT, DELETE",
        "queues": _ALL,
        "consumers": "SELECT",
        "throughput": "SELECT, DELETE",
    },
    "migrating": {},
    "locking": {},
}
#: What the role ``migrating`` needs on the whole database.
MIGRATING = (
    *("SELECT", "INSERT", "UPDATE", "CREATE", "ALTER", "DROP", "CREATE VIEW"),
    *("CREATE ROUTINE", "ALTER ROUTINE"),
)
# The column of each table with which a privilege on the whole table is tried, unless "queue".
_COLUMN = {
    "jobs": "message",
    "order_locks": "slot",
    "exchanges": "exchange",
    "consumers": "identity",
    "schedule": "name",
    "ticks": "name",
}
_PART = re.compile(r"(?P<privilege>[A-Z]+)(?: \((?P<columns>[^)]+)\))?")


class Need(NamedTuple):
    """A privilege, on one column or on all of a table.

    Attributes:
        privilege: SELECT, INSERT, UPDATE or DELETE.
        table: The table's name.
        column: A column to try it with.
        is_whole: Whether the privilege is needed on the whole table.
    """

    privilege: str
    table: str
    column: str
    is_whole: bool

    @property
    def granted_as(self) -> str:
        """The privilege as in GRANT."""
        return self.privilege if self.is_whole else f"{self.privilege} ({self.column})"


def needs_of(role: str, jobs: str) -> Iterator[Need]:
    """What the role needs on the tables of a job table of that name."""
    names = {"jobs": jobs, **table_names(jobs)}
    for kind, granted in ROLES[role].items():
        for part in _PART.finditer(granted):
            columns = part["columns"]
            for column in (columns or _COLUMN.get(kind, "queue")).split(", "):
                yield Need(part["privilege"], names[kind], column, columns is None)
