"""What can go wrong with a private server."""

from __future__ import annotations

from celery_mysqllock.exceptions import MySQLLockError


class NoServer(MySQLLockError):  # noqa: N818 - the tree's names say what happened, without "Error"
    """No server could be found or fetched."""


class ServerFailed(MySQLLockError):  # noqa: N818 - as above
    """The private server did not start, or ended on its own."""


class NotOurServer(MySQLLockError):  # noqa: N818 - as above
    """The server came from MYSQLLOCK_URL, so it is never started, stopped or killed from here."""
