"""The job table's versioned migrations: made on purpose, one by one, never guessed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from celery_mysqllock.exceptions import LockTimeout, TableMismatch, TableMissing
from celery_mysqllock.jobs.ephemeral import table_names
from celery_mysqllock.mysql import Session, Statements, get_lock, lock_name, release_lock
from celery_mysqllock.settings import check_identifier

if TYPE_CHECKING:
    from collections.abc import Iterator

_FILE = re.compile(r"(?P<version>\d{4})_(?P<name>\w+)\.sql")
_VERSION = re.compile(r"celery-mysqllock schema (\d+)")
_WAIT = 60
_INTEGERS = ("tinyint", "smallint", "mediumint", "int", "bigint")
_TEXTS = ("char", "varchar", "tinytext", "text", "mediumtext", "longtext", "json")
_ORIGINAL = {"id": _INTEGERS, "message": _TEXTS, "job_status": _INTEGERS}


@dataclass(frozen=True)
class Migration:
    """One step of the table's shape.

    Attributes:
        version: Its number, from 1.
        name: What it brings.
        sql: Its statements. The last one also writes the version into the table's comment: shape
            and version change in one step, and those before it can be run again.
    """

    version: int
    name: str
    sql: str


class Migrations:
    """The migrations of one job table.

    Args:
        session: An open session, whose user may CREATE and ALTER when ``apply`` is called.
        table: The job table's name.

    Raises:
        SettingsError: The table's name is none.
    """

    def __init__(self, session: Session, table: str = "jobs") -> None:
        self._session = session
        self._table = check_identifier("table", table)
        self._sql = Statements(__package__, "jobs.sql", jobs=table, **table_names(table))
        self.all = tuple(_read_migrations(table))

    def version(self) -> int:
        """The newest migration that the table has seen, 0 when there is no table.

        A table of the original three columns counts as version 1, whoever made it.

        Raises:
            TableMismatch: The table is none of ours; the message says what differs.
        """
        comment = self._session.value(self._sql["describe_table"], {"table": self._table})
        if comment is None:
            return 0
        if found := _VERSION.search(str(comment)):
            return int(found[1])
        self._check_original()
        return 1

    def pending(self) -> list[Migration]:
        """The migrations that the table has not seen; errors as in ``version``."""
        version = self.version()
        return [migration for migration in self.all if migration.version > version]

    def apply(self) -> list[Migration]:
        """Bring the table to the newest version and return what was done.

        Two that do so at once wait for each other, at most 60 seconds.

        Raises:
            TableMismatch: The table is none of ours; nothing was changed.
            MissingPrivilege: The user may not CREATE or ALTER the table.
            LockTimeout: Somebody else has been migrating for 60 seconds.
        """
        name = lock_name(self._session.address.database, "migrate", self._table)
        if not get_lock(self._session, name, _WAIT):
            raise LockTimeout(f"Another process has been migrating {self._table} for {_WAIT} s.")
        try:
            pending = self.pending()
            for migration in pending:
                self._session.script(migration.sql)
            return pending
        finally:
            release_lock(self._session, name)

    def check(self) -> None:
        """Make sure that the table has the shape that this release works with.

        Raises:
            TableMissing: There is none.
            TableMismatch: It is older or newer, or none of ours; the message says what to do.
        """
        version, newest = self.version(), self.all[-1].version
        if version == 0:
            raise TableMissing(
                f"There is no table {self._table} in {self._session.address}. Make it with "
                "'celery -A <app> mysqllock migrate', or set create_table=True in "
                "broker_transport_options."
            )
        if version != newest:
            advice = (
                "Bring it up to date with 'celery -A <app> mysqllock migrate'"
                if version < newest
                else "Update celery-mysqllock"
            )
            raise TableMismatch(
                f"The table {self._table} in {self._session.address} is at version {version}, and "
                f"this release works with version {newest}. {advice}. Nothing was changed."
            )

    def _check_original(self) -> None:
        rows = self._session.query(self._sql["describe_columns"], {"table": self._table})
        columns = {str(name): str(kind).lower() for name, kind in rows}
        differences = [
            f"{name} is {columns[name]} and not one of {', '.join(types)}"
            if name in columns
            else f"{name} is missing"
            for name, types in _ORIGINAL.items()
            if columns.get(name) not in types
        ]
        differences += [f"{name} is not ours" for name in columns if name not in _ORIGINAL]
        if differences:
            raise TableMismatch(
                f"{self._session.address} has a table {self._table} that is no job table: "
                f"{'; '.join(differences)}. Nothing was changed. Name another table with "
                "broker_transport_options = {'table': ...}, or rename this one."
            )


def _read_migrations(table: str) -> Iterator[Migration]:
    folder = resources.files(f"{__package__}.migrations")
    for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if found := _FILE.fullmatch(file.name):
            sql = file.read_text("utf-8").replace("{jobs}", f"`{table}`")
            for kind, name in table_names(table).items():
                sql = sql.replace(f"{{{kind}}}", f"`{name}`")
            yield Migration(int(found["version"]), found["name"], sql)
