"""The exceptions of private servers."""

from __future__ import annotations

from celery_mysqllock.exceptions import MySQLLockError


class NoServer(MySQLLockError):
    """No server could be found or fetched."""


class ServerFailed(MySQLLockError):
    """The private server did not start, or ended on its own."""


class NotOurServer(MySQLLockError):
    """The server came from MYSQLLOCK_URL, so it is never started, stopped or killed from here."""
