"""The driver's own connection behind what a pool, a tracer or a proxy has put round it.

Statements of ours run on it directly: a pool's wrapper may begin anew on another connection when
one fails, in the middle of a transaction.
"""

from __future__ import annotations

from typing import Any

_DRIVERS = frozenset({"pymysql", "MySQLdb"})
_ABILITIES = ("cursor", "commit", "rollback", "autocommit", "get_autocommit", "thread_id")


def driver_connection_of(connection: Any) -> Any:  # noqa: ANN401 - of any kind
    """The connection of PyMySQL or mysqlclient that this is or stands for, None for none.

    A cursor of either driver names its connection, and hands that on through what wraps both.
    """
    if _is_of_driver(connection):
        return connection
    try:
        cursor = connection.cursor()
    except Exception:  # noqa: BLE001 - it is none, or cannot say so
        return None
    found = getattr(cursor, "connection", None)
    close = getattr(cursor, "close", None)
    if callable(close):
        close()
    return found if _is_of_driver(found) else None


def has_unread_rows(connection: Any) -> bool:  # noqa: ANN401 - a driver's
    """Whether another statement has rows that are still to be read (PyMySQL's SSCursor).

    PyMySQL would throw them away for the next statement. mysqlclient refuses that one, with error
    2014.
    """
    return bool(getattr(getattr(connection, "_result", None), "unbuffered_active", False))


def _is_of_driver(connection: object) -> bool:
    packages = {kind.__module__.partition(".")[0] for kind in type(connection).__mro__}
    return bool(packages & _DRIVERS) and all(hasattr(connection, name) for name in _ABILITIES)
