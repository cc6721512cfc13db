"""Named locks: kept by a MySQL or MariaDB server, or in memory for tests. No Celery."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery_mysqllock.locks.holder import Holder, Process
from celery_mysqllock.locks.lock import Lock
from celery_mysqllock.locks.memory_lock import MemoryLock
from celery_mysqllock.locks.mysql_lock import MySQLLock

if TYPE_CHECKING:
    from celery_mysqllock.mysql import Address

__all__ = ["Holder", "Lock", "MemoryLock", "MySQLLock", "Process", "new_lock"]

# Options of a MySQLLock that mean nothing in memory.
_OF_A_SERVER = ("session_timeout", "allow_multi_primary")


def new_lock(name: str, *, url: str | Address, **options: Any) -> MySQLLock | MemoryLock:  # noqa: ANN401 - those of the classes
    """Make the lock that the URL calls for.

    Args:
        name: The lock's name.
        url: ``memory://`` for a ``MemoryLock``, anything else for a ``MySQLLock``.
        options: Those of ``MySQLLock``.
    """
    if isinstance(url, str) and url.startswith("memory://"):
        kept = {name: value for name, value in options.items() if name not in _OF_A_SERVER}
        return MemoryLock(name, **kept)
    return MySQLLock(name, url=url, **options)
