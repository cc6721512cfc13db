"""What the user may do: tried where that changes nothing, else read from its grants."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING

from celery_mysqllock.cli.checks.finding import ok, problem, warning
from celery_mysqllock.exceptions import (
    DatabaseError,
    MissingPrivilege,
    ReadOnlyServer,
    TableMismatch,
    TableMissing,
)
from celery_mysqllock.jobs import Migrations
from celery_mysqllock.locks.listing import lists_locks
from celery_mysqllock.mysql import Statements

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_mysqllock.cli.checks.examined import Examined
    from celery_mysqllock.cli.checks.finding import Finding
    from celery_mysqllock.mysql import Session

_WORKS_WITH = ("SELECT", "INSERT", "UPDATE", "DELETE")
_MIGRATES_WITH = ("CREATE", "ALTER", "CREATE VIEW", "CREATE ROUTINE")
_GRANT = re.compile(r"GRANT (?P<what>.+?) ON (?:TABLE )?(?P<database>\*|`[^`]*`)\.\* TO ")


def check_privileges(examined: Examined) -> Iterator[Finding]:
    """What a worker needs, what ``migrate`` needs, and what shows more."""
    granted = granted_on(examined.session, examined.session.address.database)
    if examined.table is not None:
        yield _working(examined.session, examined.table)
        yield _migrating(examined.session, examined.table, granted)
    if "PROCESS" in granted:
        yield ok("PROCESS", "granted: sessions of other users are shown too")
    else:
        yield ok("PROCESS", "not granted, not needed: of other users' locks less is shown")


def check_lock_list(examined: Examined) -> Iterator[Finding]:
    """Whether ``mysqllock locks`` sees all locks."""
    if lists_locks(examined.session):
        yield ok("lock list", "the server lists all locks, as 'mysqllock locks' shows them")
    elif examined.session.server.is_mariadb:
        yield ok(
            "lock list",
            "none: of locks 'mysqllock locks' shows those that this user's own sessions tell of",
            "INSTALL SONAME 'metadata_lock_info' shows all.",
        )
    else:
        yield ok(
            "lock list",
            "none for this user: 'mysqllock locks' shows what its own sessions tell of",
            "GRANT SELECT ON performance_schema.* TO this user shows all.",
        )


def _working(session: Session, table: str) -> Finding:
    missing = list(_refused(session, table))
    if not missing:
        return ok("privileges", f"{', '.join(_WORKS_WITH)} on {table}")
    return problem(
        "privileges",
        f"This user may not {', '.join(missing)} on {table}, which a worker does. A program that "
        "only queues jobs needs INSERT.",
        f"GRANT {', '.join(missing)} ON {session.address.database}.* TO this user.",
    )


def _refused(session: Session, table: str) -> Iterator[str]:
    statements = Statements("celery_mysqllock.cli.checks", "checks.sql", jobs=table)
    for privilege in _WORKS_WITH:
        try:
            session.query(statements[f"may_{privilege}"])
        except MissingPrivilege:
            yield privilege
        except (ReadOnlyServer, TableMissing, TableMismatch):
            pass  # what other checks are there for


def _migrating(session: Session, table: str, granted: set[str]) -> Finding:
    missing = [privilege for privilege in _MIGRATES_WITH if privilege not in granted]
    if not missing:
        return ok("migrate", f"{', '.join(_MIGRATES_WITH)} are granted")
    text = f"This user may not {', '.join(missing)}, which 'mysqllock migrate' does."
    with suppress(TableMismatch):
        # who has no right to the procedure does not see it
        if not Migrations(session, table, with_procedure=False).pending():
            return ok("migrate", f"{text} The job table is up to date, so nothing else needs it.")
    return warning("migrate", text, "Run 'mysqllock migrate' as a user who may.")


def granted_on(session: Session, database: str) -> set[str]:
    """The privileges that this session's user and its active roles have on a whole database."""
    found: set[str] = set()
    for grant in _grants(session):
        parsed = _GRANT.match(grant)
        if parsed and _covers(parsed["database"].strip("`"), database):
            found |= {privilege.strip().upper() for privilege in parsed["what"].split(",")}
    if "ALL PRIVILEGES" in found:
        found |= {*_WORKS_WITH, *_MIGRATES_WITH, "PROCESS"}
    return found


def _grants(session: Session) -> list[str]:
    """What SHOW GRANTS says; never to be shown, for MariaDB puts the password's hash into it."""
    rows = session.query("SHOW GRANTS")
    with suppress(DatabaseError):  # MySQL before 8.0 has no roles
        roles = session.value("SELECT CURRENT_ROLE()")
        if roles and roles != "NONE" and not session.server.is_mariadb:
            # quoted by the server, which takes no parameters here
            rows += session.query(f"SHOW GRANTS FOR CURRENT_USER() USING {roles}")
    return [str(row[0]) for row in rows]


def _covers(pattern: str, database: str) -> bool:
    """Whether the database of a grant, in which % and _ stand for others, is that one."""
    if pattern == "*":
        return True
    pieces = re.findall(r"\\?.", pattern)
    wild = {"%": ".*", "_": "."}
    return bool(
        re.fullmatch(
            "".join(wild.get(one, re.escape(one.lstrip("\\"))) for one in pieces), database
        )
    )
