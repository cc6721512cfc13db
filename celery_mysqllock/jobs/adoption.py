"""Adoption: prepares an existing table of the three original columns, while programs use it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery_mysqllock.exceptions import TableMismatch
from celery_mysqllock.jobs.online import Step
from celery_mysqllock.jobs.schema import ORIGINAL, TableComment
from celery_mysqllock.mysql import Statements

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from celery_mysqllock.mysql import Session

# Smaller ids would be used up too soon.
_IDS = ("int", "bigint")
_INTEGERS = ("tinyint", "smallint", "mediumint", "int", "bigint")
_TEXTS = ("char", "varchar", "tinytext", "text", "mediumtext", "longtext", "json")
_TYPES = dict(zip(ORIGINAL, (_IDS, _TEXTS, _INTEGERS), strict=True))
_SHORT_KEYS = ("compact", "redundant")


class Adoption:
    """What a table that another program has made still needs before columns are added.

    Args:
        session: An open session.
        table: The table's name, which ``settings.check_identifier`` has seen.
        keys: The names of the keys that will be added.
    """

    def __init__(self, session: Session, table: str, keys: Collection[str]) -> None:
        self._session = session
        self._table = table
        self._keys = keys
        self._sql = Statements(__package__, "migrate.sql", jobs=table)

    def check(self) -> None:
        """Do nothing when this is the original table, whatever its types of these kinds.

        Raises:
            TableMismatch: It is something else; the message says what differs.
        """
        if differences := list(self._differences()):
            raise TableMismatch(
                f"{self._session.address} has a table {self._table} that is no job table: "
                f"{'; '.join(differences)}. Nothing was changed. Name another table with "
                "broker_transport_options = {'table': ...}, or rename or change this one."
            )

    def steps(self) -> Iterator[Step]:
        """What is left to do."""
        if names := self._names():
            notice = (
                f"{self._session.server} can change the type of message only by a copy of the "
                "table; INSERTs wait until it is made."
            )
            statements = tuple(self._sql[name] for name in names)
            yield Step("adoption", statements, notice if "copy" in names else "")

    def _names(self) -> list[str]:
        """The names in migrate.sql of the statements that the table still needs, in order."""
        (_, _, row_format, comment), columns = self._describe(), self._columns()
        names = [] if TableComment.parse(comment) else ["take_over"]
        if row_format.lower() in _SHORT_KEYS:
            names.append("lengthen_keys")
        if str(columns["job_status"][3]).strip("'") != "0":
            names.append("queue_by_default")
        kind, charset = columns["message"][:2]
        if kind != "json" and (kind, charset) != ("longtext", "utf8mb4"):
            if not self._session.server.has_expression_defaults:
                return [*names, "copy"]
            names += [] if "message_wide" in columns else ["add_wide"]
            names += ["fill_new", "fill_old", "swap"]
        return names

    def _describe(self) -> tuple[str, str, str, str]:
        ((kind, engine, row_format, comment),) = self._session.query(
            self._sql["describe_table"], {"table": self._table}
        )
        return str(kind), str(engine), str(row_format), str(comment)

    def _columns(self) -> dict[str, tuple[Any, ...]]:
        rows = self._session.query(self._sql["describe_types"], {"table": self._table})
        return {str(name): (str(kind).lower(), *rest) for name, kind, *rest in rows}

    def _differences(self) -> Iterator[str]:
        kind, engine, _, _ = self._describe()
        if kind != "BASE TABLE":
            yield f"it is a {kind.lower()}"
            return
        if engine.lower() != "innodb":
            yield (
                f"its engine is {engine} and not InnoDB, which alone has transactions (ALTER TABLE "
                f"{self._table} ENGINE = InnoDB changes it; writes wait while the table is copied)"
            )
        columns = self._columns()
        for name, types in _TYPES.items():
            if name not in columns:
                yield f"{name} is missing"
            elif columns[name][0] not in types:
                yield f"{name} is {columns[name][0]} and not one of {', '.join(types)}"
        yield from (f"{name} is not ours" for name in columns if name not in _TYPES)
        if "id" in columns and "auto_increment" not in str(columns["id"][2]).lower():
            yield "id is not AUTO_INCREMENT"
        yield from self._wrong_keys()

    def _wrong_keys(self) -> Iterator[str]:
        keys: dict[str, list[str]] = {}
        rows = self._session.query(self._sql["describe_keys"], {"table": self._table})
        for key, column in rows:
            keys.setdefault(str(key), []).append(str(column))
        if keys.get("PRIMARY") != ["id"]:
            yield "its primary key is not id"
        for key, columns in keys.items():
            if "message" in columns:
                yield f"its key {key} has message in it, which is to hold any length (drop the key)"
            elif key.lower() in self._keys:
                yield f"it has a key {key}, and this makes another of that name (rename the key)"
