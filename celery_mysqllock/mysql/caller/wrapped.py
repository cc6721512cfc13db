"""The driver's own connection inside the wrapper of a pool, a tracer or a proxy.

Statements of ours run on it directly: when one fails, a pool's wrapper may go on with another
connection, in the middle of a transaction.
"""

from __future__ import annotations

import sys
from typing import Any

_DRIVERS = frozenset({"pymysql", "MySQLdb"})
_HEADER = 4  # bytes before each packet: its length and its place in the answer
_ABILITIES = ("cursor", "commit", "rollback", "autocommit", "get_autocommit", "thread_id")


def driver_connection_of(connection: Any) -> Any:  # noqa: ANN401 - of any kind
    """The connection of PyMySQL or mysqlclient that this is or wraps, None for none.

    A cursor of either driver has its connection as an attribute, also through a wrapper of both.
    """
    if _is_of_driver(connection):
        return connection
    try:
        cursor = connection.cursor()
    except Exception:  # noqa: BLE001 - it is none, or fails to say so
        return None
    found = getattr(cursor, "connection", None)
    close = getattr(cursor, "close", None)
    if callable(close):
        close()
    return found if _is_of_driver(found) else None


def has_unread_rows(connection: Any) -> bool:  # noqa: ANN401 - a driver's
    """Whether another statement has rows that are not read yet.

    These are rows of an unbuffered cursor (SSCursor), or of a procedure with several results.
    PyMySQL would discard them at the next statement; mysqlclient refuses that one with error 2014.
    """
    result = getattr(connection, "_result", None)
    if getattr(result, "unbuffered_active", False):
        return True
    return bool(getattr(result, "has_next", False)) and not _ends_next(connection)


def _ends_next(connection: Any) -> bool:  # noqa: ANN401 - PyMySQL's
    """Whether the only packet left is the end of a procedure."""
    protocol: Any = sys.modules["pymysql.protocol"]
    peek = getattr(getattr(connection, "_rfile", None), "peek", None)
    come = b"" if peek is None else peek(_HEADER + 1)
    end = _HEADER + int.from_bytes(come[: _HEADER - 1], "little")
    if len(come) < _HEADER or len(come) < end:
        return False
    packet = protocol.MysqlPacket(come[_HEADER:end], "utf8mb4")
    return packet.is_ok_packet() and not protocol.OKPacketWrapper(packet).has_next


def _is_of_driver(connection: object) -> bool:
    packages = {kind.__module__.partition(".")[0] for kind in type(connection).__mro__}
    return bool(packages & _DRIVERS) and all(hasattr(connection, name) for name in _ABILITIES)
