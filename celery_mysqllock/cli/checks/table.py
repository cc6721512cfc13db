"""The job table: its version and shape, its size, and what slows it down."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from celery_mysqllock.cli.checks.check import STATEMENTS, ok, problem, warning
from celery_mysqllock.exceptions import DatabaseError, MissingPrivilege, TableMismatch, TableMissing
from celery_mysqllock.jobs import Migrations, counted
from celery_mysqllock.jobs.ephemeral import table_names
from celery_mysqllock.jobs.schema import NEWEST
from celery_mysqllock.mysql import Statements

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_mysqllock.cli.checks.check import Finding, Target

_MUCH, _TOO_MUCH = 0.5, 0.95  # parts of the ids that may be used
_LONG = 60  # seconds for which a transaction may be open


def check_table(target: Target) -> Iterator[Finding]:
    """Whether this release works with the table."""
    table = target.table or ""
    migrations = Migrations(target.session, table)
    try:
        version = migrations.version()
        if version is None and target.creates_table:
            yield ok("job table", f"{table} is missing: it is created on first use (create_table)")
            return
        migrations.check()
    except (TableMissing, TableMismatch) as error:
        yield problem("job table", str(error), "")
    else:
        if version == NEWEST:
            yield ok("job table", f"{table}, version {version}, this release's")
        elif version is not None and version < NEWEST:
            yield warning(
                "job table",
                f"{table}, version {version}, the release before's; this one makes {NEWEST}.",
                "Run 'mysqllock migrate'. Programs of both releases go on using the table.",
            )
        else:
            yield ok("job table", f"{table}, version {version}, a newer release's")


def check_sizes(target: Target) -> Iterator[Finding]:
    """The server's estimate of the tables' sizes."""
    session, table = target.session, target.table or ""
    with suppress(
        DatabaseError
    ):  # MySQL 8 caches estimates for a day; MariaDB has no such variable
        session.execute("SET SESSION information_schema_stats_expiry = 0")
    tables = [table, *table_names(table).values()]
    for name, engine, rows, data, index in session.query(STATEMENTS["sizes"], {"tables": tables}):
        if engine not in ("InnoDB", None):  # None: a view
            text = f"{name} is kept by {engine}, which has no transactions."
            yield problem("engine", text, f"ALTER TABLE {name} ENGINE = InnoDB.")
        if name == table:
            sizes = f"{_size(data)} and {_size(index)} of indexes"
            yield ok("size", f"{name}: about {counted(rows or 0, 'row')}, {sizes}")


def check_ids(target: Target) -> Iterator[Finding]:
    """How many of the column's ids are used; an adopted table may run out of them."""
    session, table = target.session, target.table or ""
    with suppress(DatabaseError):
        session.execute("SET SESSION information_schema_stats_expiry = 0")
    own = Statements("celery_mysqllock.cli.checks", "checks.sql", jobs=table)
    for kind, following in session.query(own["ids"], {"table": table}):
        most = _most(str(kind).lower())
        used = int(following)
        with suppress(MissingPrivilege):  # without SELECT, the server's estimate must do
            used = max(used, int(session.value(own["last_id"])))
        text = f"{table}.id is {kind}: AUTO_INCREMENT is at {used} of {most}"
        if used < most * _MUCH:
            yield ok("ids", text)
        else:
            yield (problem if used >= most * _TOO_MUCH else warning)(
                "ids",
                f"{text}. After the last one no job can be stored.",
                "'mysqllock migrate --wide-ids' makes them BIGINT while programs use the table.",
            )


def _most(kind: str) -> int:
    bits = 64 if kind.startswith("bigint") else 32
    return (1 << bits) - 1 if "unsigned" in kind else (1 << (bits - 1)) - 1


def _size(number: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:  # noqa: PLR2004 - bytes of a KiB
            return f"{number:.0f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"


def check_transactions(target: Target) -> Iterator[Finding]:
    """Whether an old snapshot is open, which slows claims down."""
    try:
        seconds = target.session.value(STATEMENTS["oldest_transaction"])
    except MissingPrivilege:
        return
    if seconds is not None and seconds > _LONG:
        yield warning(
            "transactions",
            f"A transaction has been open for {seconds} s. While it is, deleted jobs stay on disk "
            "and claims get slower.",
            "Look for it in information_schema.INNODB_TRX: a backup, a report, or a program that "
            "forgot to commit.",
        )
    else:
        yield ok("transactions", f"none is open for more than {_LONG} s")
