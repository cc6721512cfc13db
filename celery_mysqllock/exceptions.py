"""Every error that celery-mysqllock raises, as one tree.

The first line of a class's docstring is its message when it is raised without one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime


class MySQLLockError(Exception):
    """Something went wrong in celery-mysqllock."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip().splitlines()[0])


# -- settings -------------------------------------------------------------------------------------


class SettingsError(MySQLLockError, ValueError):
    """A setting is wrong."""


# -- the database ---------------------------------------------------------------------------------


class DatabaseError(MySQLLockError):
    """The server refused a statement.

    Attributes:
        is_passing: Whether the same statement may well succeed later, with nothing changed.
    """

    is_passing = False


class CannotConnect(DatabaseError, ConnectionError):
    """The server cannot be reached. Is it running, and are host and port right?"""


class ConnectionLost(DatabaseError, ConnectionError):
    """The session with the server has ended; what it held (locks, a transaction) is gone."""


class UnsuitableServer(DatabaseError):
    """The server is none that this works with. Use MySQL 5.7, MariaDB 10.4, or a later one."""


class LoginRefused(DatabaseError):
    """The server refused the login. Check user, password and the hosts this user may come from."""


class UnverifiedServer(LoginRefused):
    """The server asks for the password in a way that lets an impostor read it. Nothing was sent."""


class UnknownDatabase(DatabaseError):
    """The database in the URL does not exist. Create it, or correct the URL."""


class MissingPrivilege(DatabaseError):
    """The database user lacks a privilege. Ask for a GRANT of what the message names."""


class ReadOnlyServer(DatabaseError):
    """The server takes no writes. Point the URL at the primary."""

    is_passing = True


class TransientError(DatabaseError):
    """The server rolled the statement back (deadlock, lock wait, changed row); try it again."""

    is_passing = True


class RowsLocked(TransientError):
    """Somebody else's transaction, or a LOCK TABLES or ALTER TABLE, has locked what this needs."""


class Interrupted(DatabaseError):
    """Somebody ended the statement with KILL QUERY; the session lives on."""

    is_passing = True


class StatementTimeout(DatabaseError):
    """The server's limit on statement time ended the statement."""

    is_passing = True


class InvalidText(DatabaseError):
    """The text cannot be stored: it has half of a surrogate pair in it."""


class NoSuchSession(DatabaseError):
    """The session that was to be ended has ended already."""


class DuplicateKey(DatabaseError):
    """The table has a row with this value of a unique index already."""


class MessageTooLarge(DatabaseError):
    """The message is larger than the server's max_allowed_packet. Raise it, or send less."""


class AlreadyDone(DatabaseError):
    """What the statement makes is there already."""


class ServerFull(DatabaseError):
    """The server has no room left on its disk. Nothing was stored."""

    is_passing = True


class IdsUsedUp(DatabaseError):
    """No id is left. Widen INT ids (mysqllock migrate --wide-ids), or delete the largest."""


# -- locks ----------------------------------------------------------------------------------------


class LockError(MySQLLockError):
    """A named lock could not be used."""


class LockTimeout(LockError):
    """Somebody else held the lock for the whole wait."""


class LockLost(LockError):
    """The session that held the lock has ended, so somebody else may hold it now."""


class LockNotOwned(LockError):
    """The lock is not held by this object, so it cannot release it."""


class OtherInstanceError(LockError):
    """Another instance of this task is running.

    Attributes:
        name: The full name of the lock that it holds.
        holder: Who holds it (``celery_mysqllock.locks.Holder``), None where nobody can tell.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        name: str | None = None,
        holder: Any = None,  # noqa: ANN401 - its class is in a room above this one
    ) -> None:
        super().__init__(message)
        self.name = name
        self.holder = holder


class MultiPrimaryServer(LockError):
    """The server is one of several primaries; a lock taken on one is free on the others."""


# -- the job table --------------------------------------------------------------------------------


class JobTableError(MySQLLockError):
    """The job table cannot be used."""


class TableMissing(JobTableError, DatabaseError):
    """The job table does not exist. Run: celery -A <app> mysqllock migrate."""


class TableGone(TableMissing):
    """A table is not there: renamed for a moment, or never made (mysqllock migrate makes it)."""

    is_passing = True


class TableMismatch(JobTableError, DatabaseError):
    """A table of that name exists but has another shape; nothing was changed."""


class TransactionError(JobTableError):
    """The job cannot be a part of the transaction, so nothing was stored."""


class UnroutableMessage(JobTableError):
    """No queue takes the message, so it was not stored."""


class ExchangeMismatch(JobTableError):
    """The exchange has another type."""


class InvalidJob(JobTableError):
    """The row holds no message that can run."""


class JobExists(JobTableError):
    """There is a job with this unique key already, so none was stored.

    ``apply_async`` catches it and returns the other job's ``AsyncResult``.

    Attributes:
        job_id: The id of the other job's row.
        task_id: The id of its task, None where it is derived from the row.
        created_at: When it was stored, on the server's clock in UTC.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        job_id: int = 0,
        task_id: str | None = None,
        created_at: datetime | None = None,
    ) -> None:
        super().__init__(message)
        self.job_id = job_id
        self.task_id = task_id
        self.created_at = created_at
