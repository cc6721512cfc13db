"""A connection to the database, with PyMySQL alone: no Celery, nothing of celery-mysqllock."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

import pymysql

if TYPE_CHECKING:
    from pymysql.connections import Connection
    from pymysql.cursors import Cursor


def connect(url: str, *, autocommit: bool = False) -> Connection[Cursor]:
    """Connect to the database of a mysql:// URL.

    Args:
        url: ``mysql://user:password@host:3306/database``, with ``?unix_socket=<path>`` for a
            server on this machine.
        autocommit: Whether each statement is a transaction of its own.

    Raises:
        pymysql.err.OperationalError: There is no server, or it refuses the login.
    """
    parts = urlsplit(url)
    return pymysql.connect(
        host=parts.hostname or "localhost",
        port=parts.port or 3306,
        unix_socket=parse_qs(parts.query).get("unix_socket", [None])[0],
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        database=unquote(parts.path.lstrip("/")),
        charset="utf8mb4",
        autocommit=autocommit,
    )
