"""The job table's versioned migrations: made on purpose, one by one, never guessed."""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import dataclass, replace
from functools import partial
from importlib import resources
from typing import TYPE_CHECKING

from celery_mysqllock.exceptions import (
    AlreadyDone,
    LockTimeout,
    MissingPrivilege,
    TableMismatch,
    TableMissing,
    TransientError,
)
from celery_mysqllock.jobs.adoption import Adoption
from celery_mysqllock.jobs.counted import counted
from celery_mysqllock.jobs.ephemeral import table_names
from celery_mysqllock.jobs.lock_names import LockNames
from celery_mysqllock.mysql import Session, Statements, free_among, get_lock, release_lock
from celery_mysqllock.settings import check_identifier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_FILE = re.compile(r"(?P<version>\d{4})_(?P<name>\w+)\.sql")
_COMMENTED = re.compile(
    r"celery-mysqllock schema (?P<version>\d+)(?: namespace=(?P<namespace>\S+))?"
)
# A namespace that can stand in the comment as it is; of others a hash does.
_PLAIN = re.compile(r"[A-Za-z0-9_.:@-]{1,100}")
# The first version whose comment says the namespace.
_REMEMBERS = 8
# What MySQL lacks to let a procedure be replaced that was made by who has it.
_OF_ADMINISTRATOR = "the SYSTEM_USER privilege"
# How the comment of this release's procedure begins.
_PROCEDURE = "celery-mysqllock 8:"
_KEY = re.compile(r"^ *ADD (?:UNIQUE )?KEY (\w+)", re.MULTILINE)
_COMMENT = re.compile(r"^--.*\n?", re.MULTILINE)
_WAIT = 60
# Seconds that an ALTER TABLE waits for open transactions: everybody who comes meanwhile waits for
# it. An idle consumer's statement on the table takes ten.
_PATIENCE = 15
_ATTEMPTS, _PAUSE = 5, 5.0
# Seconds that a statement may take: an index of a great table takes minutes.
_LONGEST = 86_400.0


@dataclass(frozen=True)
class Migration:
    """One step of the table's shape.

    Attributes:
        version: Its number, from 1.
        name: What it brings.
        sql: Its statements, with a blank line between two. The last one writes the version into the
            table's comment. Those before it can be run again, or fail since they were.
        notice: What its user should know before, empty for nothing.
    """

    version: int
    name: str
    sql: str
    notice: str = ""

    @property
    def statements(self) -> list[str]:
        """The statements, one by one."""
        pieces = re.split(r";\s*\n\s*\n", _COMMENT.sub("", self.sql))
        return [piece.strip() for piece in pieces if piece.strip()]


class Migrations:
    """The migrations of one job table.

    Args:
        session: An open session, whose user may CREATE and ALTER when ``apply`` is called.
        table: The job table's name.
        namespace: The namespace of those who use the table, which it remembers; None where it is
            not known, which fits any.
        renames: Whether ``apply`` gives a table that remembers another namespace this one.
        with_procedure: Whether to make the procedure, which takes the privilege CREATE ROUTINE.

    Raises:
        SettingsError: The table's name is none.
    """

    def __init__(
        self,
        session: Session,
        table: str = "jobs",
        *,
        namespace: str | None = None,
        renames: bool = False,
        with_procedure: bool = True,
    ) -> None:
        self._session = session
        self._table = check_identifier("table", table)
        self._sql = Statements(__package__, "jobs.sql", jobs=table, **table_names(table))
        self._procedure = publish_procedure(table)
        self._names = LockNames.of(session, table)
        self._namespace = namespace
        self._renames = renames
        self._with_procedure = with_procedure
        self.all = tuple(_read_migrations(table, self._procedure, self._own_namespace))
        keys = {key for migration in self.all for key in _KEY.findall(migration.sql)}
        self._adoption = Adoption(session, table, keys)

    def version(self) -> int:
        """The newest migration that the table has seen, 0 when there is no table.

        A table of the original three columns counts as version 1, whoever made it.

        Raises:
            TableMismatch: The table is none of ours; the message says what differs.
        """
        return self._look()[0]

    def _look(self) -> tuple[int, str | None]:
        """The version, and the namespace that the table remembers; None before it does."""
        comment = self._session.value(self._sql["describe_table"], {"table": self._table})
        if comment is None:
            return 0, None
        found = _COMMENTED.search(str(comment))
        if found is None:
            self._adoption.check()
            return 1, None
        version = int(found["version"])
        return version, None if version < _REMEMBERS else found["namespace"] or ""

    def pending(self) -> list[Migration]:
        """The migrations that the table has not seen; errors as in ``version``.

        The first is what makes a table fit that another program has made.
        """
        version, remembered = self._look()
        if version > self.all[-1].version:
            return []
        pending = [migration for migration in self.all if migration.version > version]
        if version == 1 and (steps := self._adoption.steps()):
            sql, notice = self._adoption.sql(steps), self._adoption.notice(steps)
            return [Migration(1, "adoption", sql, notice), *pending]
        makes_procedure = not version or any(map(_routines, pending)) or not self._with_procedure
        if not makes_procedure and not self._is_procedure_right():
            publish = next(one for one in self.all if _routines(one))
            pending.append(replace(publish, sql=";\n\n".join(_routines(publish))))
        if self._renames and self._is_of_another(remembered):
            newest = self.all[-1]
            pending.append(Migration(newest.version, "namespace", newest.statements[-1]))
        return pending

    def apply(self) -> list[Migration]:
        """Bring the table to the newest version and return what was done.

        Two that do so at once wait for each other, at most 60 seconds. Who is killed in the middle
        leaves what the next finishes. Programs go on to use the table meanwhile.

        Raises:
            TableMismatch: The table is none of ours, or is to get another namespace while consumers
                live; nothing was changed.
            MissingPrivilege: The user may not CREATE or ALTER the table, or make the procedure; in
                the latter case nothing was changed.
            LockTimeout: Somebody else has been migrating for 60 seconds.
            TransientError: A transaction has kept the table to itself for longer than a minute.
        """
        name = self._names.migrate
        if not get_lock(self._session, name, _WAIT):
            raise LockTimeout(f"Another process has been migrating {self._table} for {_WAIT} s.")
        try:
            with self._session.waiting(_LONGEST):
                return self._apply()
        finally:
            release_lock(self._session, name)

    def _apply(self) -> list[Migration]:
        pending = self.pending()
        self._session.execute("SET SESSION lock_wait_timeout = %s", (_PATIENCE,))
        if any(migration.name == "namespace" for migration in pending):
            self._check_unused()
        self._make_routines(pending)
        for migration in pending:
            if migration.name == "adoption":
                for step in self._adoption.steps():
                    self._persist(partial(self._adoption.take, step))
                continue
            for statement in migration.statements:
                if statement not in _routines(migration):
                    self._persist(partial(self._session.execute, statement))
        return pending

    def _make_routines(self, pending: list[Migration]) -> None:
        """Make them first of all: what the user may not do shows before anything is changed."""
        if not self._with_procedure:
            return
        try:
            for drop, create in filter(None, map(_routines, pending)):
                try:
                    self._session.execute(create)
                except AlreadyDone:
                    self._session.execute(drop)
                    self._session.execute(create)
        except MissingPrivilege as error:
            advice = "GRANT CREATE ROUTINE, ALTER ROUTINE on the database"
            if _OF_ADMINISTRATOR in str(error):
                advice = (
                    "An administrator with SYSTEM_USER has made the one that is there: have such a "
                    "one DROP it, or migrate"
                )
            raise MissingPrivilege(
                f"The user may not make the procedure {self._procedure}; nothing was changed. "
                f"{advice}, or do without the procedure: mysqllock migrate --no-procedure. "
                f"({error})"
            ) from error

    def _persist(self, statement: Callable[[], object]) -> None:
        for left in reversed(range(_ATTEMPTS)):
            try:
                statement()
            except AlreadyDone:
                # by a run that was killed before it could note the version
                return
            except TransientError as error:
                if left:
                    time.sleep(_PAUSE)
                    continue
                raise TransientError(
                    f"The table {self._table} was never free for a moment: a transaction that has "
                    "used it stays open. End that one, and migrate again: it goes on where this "
                    f"stopped. ({error})"
                ) from error
            else:
                return

    def _is_procedure_right(self) -> bool:
        """Whether the procedure is there, and is this release's."""
        found = self._session.query(self._sql["describe_routine"], {"routine": self._procedure})
        return any(str(comment).startswith(_PROCEDURE) for (comment,) in found)

    # -- the namespace ----------------------------------------------------------------------------

    @property
    def _own_namespace(self) -> str:
        """What the comment says of the own one: nothing where it is the database's name.

        So a dump that is restored into another database goes by that one's name.
        """
        if self._namespace is None or self._namespace == self._names.database:
            return ""
        if _PLAIN.fullmatch(self._namespace):
            return self._namespace
        return f"sha256:{hashlib.sha256(self._namespace.encode()).hexdigest()}"

    def _is_of_another(self, remembered: str | None) -> bool:
        is_known = remembered is not None and self._namespace is not None
        return is_known and remembered != self._own_namespace

    def _check_unused(self) -> None:
        locks = [self._names.consumer(row[0]) for row in self._session.query(self._sql["users"])]
        if alive := len(locks) - len(free_among(self._session, locks)):
            raise TableMismatch(
                f"The table {self._table} is in use by {counted(alive, 'living consumer')} of "
                "another namespace. Stop what uses it first. Nothing was changed."
            )

    def check(self) -> None:
        """Make sure that the table has the shape that this release works with.

        Raises:
            TableMissing: There is none.
            TableMismatch: It is older or newer, of another namespace, or none of ours; the message
                says what to do.
        """
        version, remembered = self._look()
        newest = self.all[-1].version
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
        if self._is_of_another(remembered):
            raise TableMismatch(
                f"The table {self._table} in {self._session.address} belongs to programs of the "
                f"namespace {remembered or self._names.database!r}, and the namespace here is "
                f"{self._namespace!r}. Set broker_transport_options = {{'namespace': ...}} to the "
                "same for all who use the table, or give it another with 'mysqllock migrate'."
            )


def publish_procedure(table: str) -> str:
    """The name of the procedure that stores jobs in that table."""
    return "mysqllock_publish" if table == "jobs" else f"mysqllock_publish_{table}"


def _routines(migration: Migration) -> list[str]:
    return [one for one in migration.statements if re.match(r"(DROP|CREATE) PROCEDURE", one)]


def _read_migrations(table: str, procedure: str, namespace: str) -> Iterator[Migration]:
    remembered = f" namespace={namespace}" if namespace else ""
    folder = resources.files(f"{__package__}.migrations")
    names = {"jobs": table, "publish": procedure, **table_names(table)}
    for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if found := _FILE.fullmatch(file.name):
            sql = (
                file.read_text("utf-8").replace("{namespace}", remembered).replace("{table}", table)
            )
            for kind, name in names.items():
                sql = sql.replace(f"{{{kind}}}", f"`{name}`")
            yield Migration(int(found["version"]), found["name"], sql)
