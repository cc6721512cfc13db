"""The exceptions of celery-mysqllock, as one tree.

The first line of a class's docstring is the default message.
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
        is_passing: Whether the same statement may succeed later without a change.
    """

    is_passing = False


class CannotConnect(DatabaseError, ConnectionError):
    """The server cannot be reached. Is it running, and are host and port right?"""


class ConnectionLost(DatabaseError, ConnectionError):
    """The session with the server has ended; its locks and its transaction are gone."""


class UnsuitableServer(DatabaseError):
    """This server is not supported. Use MySQL 5.7, MariaDB 10.4, or a later version."""


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
    """Another transaction, or a LOCK TABLES or ALTER TABLE, has locked what the statement needs."""


class Interrupted(DatabaseError):
    """The statement was ended by KILL QUERY; the session goes on."""

    is_passing = True


class StatementTimeout(DatabaseError):
    """The statement ran into the server's limit on statement time."""

    is_passing = True


class InvalidText(DatabaseError):
    """The text cannot be stored: it contains half of a surrogate pair."""


class NoSuchSession(DatabaseError):
    """The session that was to be killed has already ended."""


class DuplicateKey(DatabaseError):
    """The table already has a row with this value of a unique index."""


class MessageTooLarge(DatabaseError):
    """The message is larger than the server's max_allowed_packet. Raise it, or send less."""


class AlreadyDone(DatabaseError):
    """What the statement creates already exists."""


class ServerFull(DatabaseError):
    """The server has no room left on its disk. Nothing was stored."""

    is_passing = True


class IdsUsedUp(DatabaseError):
    """No id is left. Widen INT ids (mysqllock migrate --wide-ids), or delete the largest."""


# -- locks ----------------------------------------------------------------------------------------


class LockError(MySQLLockError):
    """A named lock could not be used."""


class LockTimeout(LockError):
    """The lock was held by another session for the whole wait."""


class LockLost(LockError):
    """The session that held the lock has ended, so another one may hold it now."""


class LockNotOwned(LockError):
    """This object does not hold the lock, so it cannot release it."""


class OtherInstanceError(LockError):
    """Another instance of this task is running.

    Attributes:
        name: The full name of the lock that the other instance holds.
        holder: The other instance (``celery_mysqllock.locks.Holder``), None if it is unknown.
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
    """A table does not exist: it is being renamed, or was never made (run mysqllock migrate)."""

    is_passing = True


class TableMismatch(JobTableError, DatabaseError):
    """A table of that name exists but has another definition; nothing was changed."""


class TransactionError(JobTableError):
    """The job cannot be part of the transaction, so nothing was stored."""


class UnroutableMessage(JobTableError):
    """No queue takes the message, so it was not stored."""


class ExchangeMismatch(JobTableError):
    """The exchange exists with another type."""


class InvalidJob(JobTableError):
    """The row does not contain a message that can run."""


class JobExists(JobTableError):
    """A job with this unique key already exists, so none was stored.

    ``apply_async`` catches it and returns the other job's ``AsyncResult``.

    Attributes:
        job_id: The id of the other job's row.
        task_id: Its task id, None if it is derived from the row.
        created_at: When it was stored, by the server's clock, in UTC.
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
