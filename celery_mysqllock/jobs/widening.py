"""Makes the INT ids of an adopted table BIGINT: a copy that follows its changes replaces it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery_mysqllock.exceptions import DatabaseError, MissingPrivilege, TransientError
from celery_mysqllock.jobs.online import changing, execute
from celery_mysqllock.mysql import Statements
from celery_mysqllock.settings import check_identifier

if TYPE_CHECKING:
    from celery_mysqllock.mysql import Session

_WIDE = "bigint"


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
            "migrate.sql",
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
        return self._type() != _WIDE or self._type("_narrow") is not None

    def apply(self) -> None:
        """Widen the ids.

        Raises:
            MissingPrivilege: The user may not make triggers.
            TransientError: A transaction has kept the table to itself for longer than a minute.
        """
        with changing(self._session):
            if self._type() != _WIDE:
                rows = self._session.query(self._sql["describe_columns"], {"table": self._table})
                names = [f"`{name}`" for name, _ in rows]
                self._execute("make")
                self._execute("widen")
                self._follow(names)
                self._execute("copy_old", columns=", ".join(names))
                self._execute("exchange")
            self._execute("drop_narrow")

    def _follow(self, names: list[str]) -> None:
        """Have the second table follow the first from now on."""
        columns, values = ", ".join(names), ", ".join(f"NEW.{name}" for name in names)
        try:
            for step in ("on_insert", "on_update", "on_delete"):
                self._execute(step, columns=columns, values=values)
        except (MissingPrivilege, TransientError):
            raise
        except DatabaseError as error:
            raise MissingPrivilege(
                f"The server lets this user make no trigger, without which {self._table} cannot be "
                "copied while it is in use. GRANT TRIGGER, and SET GLOBAL "
                "log_bin_trust_function_creators = ON where there is a binary log; or stop all "
                f"programs and ALTER TABLE {self._table} MODIFY id BIGINT UNSIGNED NOT NULL "
                f"AUTO_INCREMENT. ({error})"
            ) from error

    def _execute(self, step: str, **texts: str) -> None:
        sql = self._sql[step]
        for name, text in texts.items():
            sql = sql.replace(f"%({name})s", text)
        execute(self._session, self._sql, sql, self._table)

    def _type(self, suffix: str = "") -> str | None:
        named = {"table": f"{self._table}{suffix}"}
        kind = self._session.value(self._sql["type_of_id"], named)
        return None if kind is None else str(kind).lower()
