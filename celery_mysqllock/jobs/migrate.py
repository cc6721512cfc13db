"""Makes the job table and its companions, or brings older ones to this release's schema."""

from __future__ import annotations

import hashlib
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from celery_mysqllock.exceptions import (
    AlreadyDone,
    LockTimeout,
    MissingPrivilege,
    TableMismatch,
    TableMissing,
)
from celery_mysqllock.jobs.adoption import Adoption
from celery_mysqllock.jobs.counted import counted
from celery_mysqllock.jobs.ephemeral import table_names
from celery_mysqllock.jobs.lock_names import LockNames
from celery_mysqllock.jobs.online import Step, changing, execute
from celery_mysqllock.jobs.schema import (
    NEWEST,
    OLDEST,
    UNFINISHED,
    TableComment,
    TableDefinition,
    Version,
    publish_procedure,
)
from celery_mysqllock.mysql import Session, Statements, free_among, get_lock, release_lock
from celery_mysqllock.settings import check_identifier

if TYPE_CHECKING:
    from collections.abc import Iterator

# A namespace that can stand in the comment as it is; a hash stands for others.
_PLAIN = re.compile(r"[A-Za-z0-9_.:@-]{1,100}")
# What MySQL asks for before a procedure is replaced that a user with this privilege has made.
_OF_ADMINISTRATOR = "the SYSTEM_USER privilege"
_PROCEDURE_COMMENT = re.compile(r"^ *COMMENT '(.+)'$", re.MULTILINE)
_WAIT = 60


class Migrations:
    """What ``migrate`` does to one job table and the tables beside it.

    Args:
        session: An open session, whose user may CREATE and ALTER when ``apply`` is called.
        table: The job table's name.
        namespace: The namespace of the programs that use the table, which it remembers; None where
            it is not known, which fits any.
        renames: Whether ``apply`` gives a table that remembers another namespace this one.
        with_procedure: Whether to make the procedure, which takes the privilege CREATE ROUTINE.

    Raises:
        SettingsError: The table's name is not an identifier.
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
        self._procedure = publish_procedure(table)
        self._tables = {"jobs": table, **table_names(table)}
        self._schema = Statements(
            __package__, "schema.sql", publish=self._procedure, **self._tables
        )
        self._sql = Statements(__package__, "migrate.sql", **self._tables)
        keys = TableDefinition.of(table, self._schema["jobs"]).keys
        self._adoption = Adoption(session, table, keys)
        self._names = LockNames.of(session, table)
        self._namespace = namespace
        self._renames = renames
        self._with_procedure = with_procedure

    def version(self) -> Version | None:
        """The version of the table's schema, None when there is no table.

        Raises:
            TableMismatch: The table is no job table; the message says what differs.
        """
        found = self._look()
        return None if found is None else found.version

    def _look(self) -> TableComment | None:
        rows = self._session.query(self._sql["describe_table"], {"table": self._table})
        if not rows:
            return None
        found = TableComment.parse(str(rows[0][-1]))
        if found is None:
            self._adoption.check()
            return TableComment(UNFINISHED)
        return found

    def pending(self) -> list[Step]:
        """What ``apply`` would do: nothing to the table of a newer release.

        Raises:
            TableMismatch: The table is no job table, or too old to be upgraded.
        """
        found = self._look()
        if found is not None and found.version > NEWEST:
            return []
        steps = [*self._procedure_step()]
        own = TableComment(NEWEST, self._own_namespace)
        if found is None:
            steps.append(self._step("create", own))
        elif found.version == UNFINISHED:
            steps += [*self._adoption.steps(), self._step("upgrade", own)]
        elif found.version < OLDEST:
            raise self._mismatch(found.version)
        elif found.version < NEWEST:
            steps.append(self._step("upgrade", TableComment(NEWEST, found.namespace)))
        if found is not None and self._renames and self._is_of_another(found):
            steps.append(Step("namespace", (self._finish(own),)))
        return steps

    def _procedure_step(self) -> Iterator[Step]:
        if not self._with_procedure:
            return
        create = self._schema["publish"].replace("{table}", self._table)
        own = _PROCEDURE_COMMENT.search(create)
        found = self._session.query(self._sql["describe_routine"], {"routine": self._procedure})
        if own is None or (own[1],) not in found:
            drop = f"DROP PROCEDURE IF EXISTS `{self._procedure}`"
            yield Step("procedure", (drop, create))

    def _step(self, name: str, comment: TableComment) -> Step:
        return Step(name, tuple(self._missing(comment)))

    def _missing(self, comment: TableComment) -> Iterator[str]:
        """The statements of schema.sql that are to be run, the one with the new comment last."""
        for name in self._schema:
            statement = self._schema[name]
            if name == "finish":
                yield self._finish(comment)
            elif statement.startswith("CREATE TABLE"):
                yield from self._changes(self._tables[name], statement)
            elif name != "publish":
                yield statement

    def _changes(self, table: str, statement: str) -> Iterator[str]:
        columns = dict(self._session.query(self._sql["describe_columns"], {"table": table}))
        if not columns:
            yield statement
            return
        keys = {key for key, _ in self._session.query(self._sql["describe_keys"], {"table": table})}
        yield from TableDefinition.of(table, statement).changes(columns, keys)

    def _finish(self, comment: TableComment) -> str:
        return self._schema["finish"].replace("{comment}", str(comment))

    def apply(self) -> list[Step]:
        """Bring the table to this release's schema and return what was done.

        A second process that does so at the same time waits for the first, at most 60 seconds. A
        run that was killed is finished by the next. Programs go on using the table meanwhile.

        Raises:
            TableMismatch: The table is no job table, is too old, or is to get another namespace
                while consumers live; nothing was changed.
            MissingPrivilege: The user may not CREATE or ALTER the table, or make the procedure; in
                the latter case nothing was changed.
            LockTimeout: Another process has been migrating for 60 seconds.
            TransientError: A transaction has kept the table to itself for longer than a minute.
        """
        with self._alone(), changing(self._session):
            pending = self.pending()
            if any(step.name == "namespace" for step in pending):
                self._check_unused()
            for step in pending:
                if step.name == "procedure":
                    self._make_procedure(*step.statements)
                    continue
                for statement in step.statements:
                    execute(self._session, self._sql, statement, self._table)
            return pending

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes from migrating the table."""
        name = self._names.migrate
        if not get_lock(self._session, name, _WAIT):
            raise LockTimeout(f"Another process has been migrating {self._table} for {_WAIT} s.")
        try:
            yield
        finally:
            release_lock(self._session, name)

    def _make_procedure(self, drop: str, create: str) -> None:
        """Make it, before anything else: what the user may not do shows when nothing is changed."""
        try:
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

    # -- what the table's comment says ------------------------------------------------------------

    @property
    def _own_namespace(self) -> str:
        """What the comment says of the own namespace: nothing where it is the database's name.

        So a dump that is restored into another database goes by that one's name.
        """
        if self._namespace is None or self._namespace == self._names.database:
            return ""
        if _PLAIN.fullmatch(self._namespace):
            return self._namespace
        return f"sha256:{hashlib.sha256(self._namespace.encode()).hexdigest()}"

    def _is_of_another(self, found: TableComment) -> bool:
        is_known = self._namespace is not None and found.version >= OLDEST
        return is_known and found.namespace != self._own_namespace

    def _check_unused(self) -> None:
        locks = [self._names.consumer(row[0]) for row in self._session.query(self._sql["users"])]
        if alive := len(locks) - len(free_among(self._session, locks)):
            raise TableMismatch(
                f"The table {self._table} is in use by {counted(alive, 'living consumer')} of "
                "another namespace. Stop what uses it first. Nothing was changed."
            )

    def check(self) -> None:
        """Make sure that this release works with the table.

        While another process makes or adopts the table, wait for it, at most 60 seconds.

        Raises:
            TableMissing: There is none.
            TableMismatch: It is too old or too new, of another namespace, or no job table; the
                message says what to do.
            LockTimeout: Another process has been migrating it for 60 seconds.
        """
        found = self._look()
        if found is not None and found.version == UNFINISHED:
            with self._alone():
                found = self._look()
        if found is None:
            raise TableMissing(
                f"There is no table {self._table} in {self._session.address}. Make it with "
                "'celery -A <app> mysqllock migrate', or set create_table=True in "
                "broker_transport_options."
            )
        if not OLDEST <= found.version < Version(NEWEST.schema + 1):
            raise self._mismatch(found.version)
        if self._is_of_another(found):
            raise TableMismatch(
                f"The table {self._table} in {self._session.address} belongs to programs of the "
                f"namespace {found.namespace or self._names.database!r}, and the namespace here is "
                f"{self._namespace!r}. Set broker_transport_options = {{'namespace': ...}} to the "
                "same for all that use the table, or give it another with 'mysqllock migrate'."
            )

    def _mismatch(self, version: Version) -> TableMismatch:
        if version > NEWEST:
            advice = "Update celery-mysqllock here"
        elif version == UNFINISHED:
            advice = "Bring it up to date with 'celery -A <app> mysqllock migrate'"
        else:
            advice = "Let the release that made it finish its 'mysqllock migrate' first"
        return TableMismatch(
            f"The table {self._table} in {self._session.address} is at version {version} of its "
            f"schema, and this release works with {OLDEST} and later ones of schema "
            f"{NEWEST.schema}. {advice}. Nothing was changed."
        )
