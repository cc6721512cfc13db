"""Makes the INT ids of an adopted table BIGINT: a copy that follows its changes replaces it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from celery_mysqllock.exceptions import DatabaseError, MissingPrivilege, TransientError
from celery_mysqllock.jobs.online import changing, persist
from celery_mysqllock.jobs.retry import retried
from celery_mysqllock.mysql import Statements
from celery_mysqllock.settings import check_identifier

if TYPE_CHECKING:
    from celery_mysqllock.mysql import Session

_WIDE = "bigint"
# Rows that one statement copies, and locks for some hundredths of a second.
_PART = 2000


class Widening:
    """Makes the ids of a job table BIGINT while programs use it.

    Servers copy the table to change the type of a primary key, and all writes wait (except in
    MariaDB from 11.2 on). So this fills a second table part by part, while triggers apply to it
    each change of the first, and then renames both in one moment. The next run finishes one that
    was killed.

    Args:
        session: An open session, whose user may CREATE, ALTER, DROP and TRIGGER.
        table: The job table's name, which is up to date.
    """

    def __init__(self, session: Session, table: str = "jobs") -> None:
        self._session = session
        self._table = check_identifier("table", table)
        self._sql = Statements(
            __package__,
            "widening.sql",
            jobs=table,
            wide=f"{table}_wide",
            narrow=f"{table}_narrow",
            on_insert=f"{table}_on_insert",
            on_update=f"{table}_on_update",
            on_delete=f"{table}_on_delete",
        )

    @property
    def is_needed(self) -> bool:
        """Whether the ids are narrow, or a run has not been finished."""
        return self._type() != _WIDE or self._is_there("narrow")

    def apply(self) -> None:
        """Widen the ids.

        Raises:
            MissingPrivilege: The user may not make triggers.
            TransientError: A transaction has kept the table to itself for longer than a minute.
        """
        with changing(self._session):
            if self._type() != _WIDE:
                self._follow()
                self._copy()
                self._persist("exchange")
            self._persist("drop_narrow")

    def _follow(self) -> None:
        """Make the second table, and have it follow the first from now on."""
        self._persist("make")
        self._persist("widen")
        names = [row[0] for row in self._session.query(self._sql["columns"], self._named("table"))]
        columns = ", ".join(f"`{name}`" for name in names)
        values = ", ".join(f"NEW.`{name}`" for name in names)
        try:
            for step in ("on_insert", "on_update", "on_delete"):
                self._persist(step, columns=columns, values=values)
        except MissingPrivilege:
            raise
        except DatabaseError as error:
            if isinstance(error, TransientError):
                raise
            raise MissingPrivilege(
                f"The server lets this user make no trigger, without which {self._table} cannot be "
                "copied while it is in use. GRANT TRIGGER, and SET GLOBAL "
                "log_bin_trust_function_creators = ON where there is a binary log; or stop all "
                f"programs and ALTER TABLE {self._table} MODIFY id BIGINT UNSIGNED NOT NULL "
                f"AUTO_INCREMENT. ({error})"
            ) from error

    def _copy(self) -> None:
        names = [row[0] for row in self._session.query(self._sql["columns"], self._named("table"))]
        copy = self._sql["copy"].replace("%(columns)s", ", ".join(f"`{name}`" for name in names))
        after, last = -1, self._session.value(self._sql["last_id"])
        while last is not None and after < last:
            to = self._session.value(self._sql["end_of_part"], {"after": after, "limit": _PART})
            if to is None:
                return
            part = {"after": after, "to": to}
            retried(partial(self._session.execute, copy, part))
            after = to

    def _persist(self, step: str, **texts: str) -> None:
        sql = self._sql[step]
        for name, text in texts.items():
            sql = sql.replace(f"%({name})s", text)
        persist(lambda: self._session.execute(sql), self._table)

    def _type(self) -> str:
        return str(self._session.value(self._sql["type_of_id"], self._named("table"))).lower()

    def _is_there(self, which: str) -> bool:
        return self._session.value(self._sql["type_of_id"], self._named(which)) is not None

    def _named(self, which: str) -> dict[str, str]:
        return {"table": self._table if which == "table" else f"{self._table}_{which}"}
