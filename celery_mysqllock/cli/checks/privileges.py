"""The user's privileges: tried where that changes nothing, otherwise read from its grants."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING

from celery_mysqllock.cli.checks.check import ok, problem, warning
from celery_mysqllock.cli.checks.roles import MIGRATING, needs_of
from celery_mysqllock.exceptions import (
    ConnectionLost,
    DatabaseError,
    MissingPrivilege,
    TableMismatch,
)
from celery_mysqllock.jobs import Migrations
from celery_mysqllock.locks.listing import lists_locks
from celery_mysqllock.mysql import Statements

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_mysqllock.cli.checks.check import Finding, Target
    from celery_mysqllock.cli.checks.roles import Need
    from celery_mysqllock.mysql import Session

_GRANT = re.compile(r"GRANT (?P<what>.+?) ON (?:TABLE )?(?P<database>\*|`[^`]*`)\.\* TO ")


def check_privileges(target: Target) -> Iterator[Finding]:
    """What the role needs, what ``migrate`` needs, and what shows more of others."""
    granted = granted_on(target.session, target.session.address.database)
    if target.table is not None and target.role == "migrating":
        yield _is_to_migrate(target.session, granted)
    elif target.table is not None:
        yield _playing(target.session, target.table, target.role)
    if target.table is not None and target.role == "worker":
        yield _migrating(target.session, target.table, granted)
    if "PROCESS" in granted:
        yield ok("PROCESS", "granted: sessions of other users are shown too")
    else:
        yield ok("PROCESS", "not granted, not needed: of other users' locks less is shown")


def check_lock_list(target: Target) -> Iterator[Finding]:
    """Whether ``mysqllock locks`` sees all locks."""
    if lists_locks(target.session):
        yield ok("lock list", "the server lists all locks, as 'mysqllock locks' shows them")
    elif target.session.server.is_mariadb:
        yield ok(
            "lock list",
            "none: 'mysqllock locks' shows only locks that are waited for",
            "INSTALL SONAME 'metadata_lock_info' shows all.",
        )
    else:
        yield ok(
            "lock list",
            "none for this user: 'mysqllock locks' shows only locks that are waited for",
            "GRANT SELECT ON performance_schema.* TO this user shows all.",
        )


def _playing(session: Session, table: str, role: str) -> Finding:
    missing: dict[str, list[str]] = {}
    for need in needs_of(role, table):
        if not _may(session, need):
            missing.setdefault(need.table, []).append(need.granted_as)
    if not missing:
        return ok("privileges", f"all that {_who(role)} needs")
    refused = "; ".join(f"{', '.join(what)} on {name}" for name, what in missing.items())
    database = session.address.database
    return problem(
        "privileges",
        f"This user may not do all that {_who(role)} does: {refused}. For another role say "
        "--for, such as 'doctor --for producer'.",
        " ".join(
            f"GRANT {', '.join(what)} ON {database}.{name} TO this user."
            for name, what in missing.items()
        ),
    )


def _who(role: str) -> str:
    """The role in a sentence."""
    return {
        "looking": "a user that looks",
        "acting": "a user that acts",
        "locking": "a user that takes locks",
        "unique-producer": "a producer of unique or ordered tasks",
    }.get(role, f"a {role}")


def _may(session: Session, need: Need) -> bool:
    statements = Statements(
        "celery_mysqllock.cli.checks", "checks.sql", table=need.table, column=need.column
    )
    is_all = need.is_whole and need.privilege == "SELECT"
    try:
        session.query(statements[f"may_{need.privilege}{'_all' if is_all else ''}"])
    except MissingPrivilege:
        return False
    except ConnectionLost:
        raise
    except DatabaseError:
        pass  # read-only, no such table, another shape: other checks report that
    return True


def _is_to_migrate(session: Session, granted: set[str]) -> Finding:
    missing = [privilege for privilege in MIGRATING if privilege not in granted]
    if not missing:
        return ok("privileges", "all that 'mysqllock migrate' needs")
    return problem(
        "privileges",
        f"This user may not {', '.join(missing)}, which 'mysqllock migrate' does.",
        f"GRANT {', '.join(missing)} ON {session.address.database}.* TO this user.",
    )


def _migrating(session: Session, table: str, granted: set[str]) -> Finding:
    missing = [privilege for privilege in MIGRATING if privilege not in granted]
    if not missing:
        return ok("migrate", f"{', '.join(MIGRATING)} are granted")
    text = f"This user may not {', '.join(missing)}, which 'mysqllock migrate' does."
    with suppress(TableMismatch):
        # a user without rights on the procedure cannot see it
        if not Migrations(session, table, with_procedure=False).pending():
            return ok("migrate", f"{text} The job table is up to date, so nothing else needs it.")
    return warning("migrate", text, "Run 'mysqllock migrate' as a user that may.")


def granted_on(session: Session, database: str) -> set[str]:
    """The privileges that this session's user and its active roles have on a whole database."""
    found: set[str] = set()
    for grant in _grants(session):
        parsed = _GRANT.match(grant)
        if parsed and _covers(parsed["database"].strip("`"), database):
            found |= {privilege.strip().upper() for privilege in parsed["what"].split(",")}
    if "ALL PRIVILEGES" in found:
        found |= {*MIGRATING, "DELETE", "PROCESS"}
    return found


def _grants(session: Session) -> list[str]:
    """The rows of SHOW GRANTS; not to be shown, since MariaDB includes the password's hash."""
    rows = session.query("SHOW GRANTS")
    with suppress(DatabaseError):  # MySQL before 8.0 has no roles
        roles = session.value("SELECT CURRENT_ROLE()")
        if roles and roles != "NONE" and not session.server.is_mariadb:
            # the server has quoted them, and takes no parameters here
            rows += session.query(f"SHOW GRANTS FOR CURRENT_USER() USING {roles}")
    return [str(row[0]) for row in rows]


def _covers(pattern: str, database: str) -> bool:
    """Whether the database pattern of a grant, with the wildcards % and _, matches."""
    if pattern == "*":
        return True
    pieces = re.findall(r"\\?.", pattern)
    wild = {"%": ".*", "_": "."}
    return bool(
        re.fullmatch(
            "".join(wild.get(one, re.escape(one.lstrip("\\"))) for one in pieces), database
        )
    )
