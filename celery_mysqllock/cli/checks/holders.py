"""Who holds the locks of the job table: a login without any privilege can, and hold all up."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from celery_mysqllock.cli.checks.finding import ok, warning
from celery_mysqllock.exceptions import MissingPrivilege
from celery_mysqllock.jobs import LockNames
from celery_mysqllock.jobs.ephemeral import table_names
from celery_mysqllock.mysql import Statements, used_by

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_mysqllock.cli.checks.examined import Examined
    from celery_mysqllock.cli.checks.finding import Finding
    from celery_mysqllock.mysql import Session

_statements = Statements("celery_mysqllock.cli.checks", "checks.sql")
# Seconds in which a beat that has just become active has both of its locks.
_ACTIVATION = 3.0


def check_lock_holders(examined: Examined) -> Iterator[Finding]:
    """Whether the locks of the sweeper and of the active beat are held by such."""
    session, table = examined.session, examined.table or ""
    names = LockNames.of(session, table)
    strangers = []
    sweeper = used_by(session, names.sweeper)
    # who may not read who the consumers are cannot tell
    with suppress(MissingPrivilege):
        if sweeper is not None and not _is_consumer(session, table, names, sweeper):
            strangers.append(_stranger(session, names.sweeper, sweeper, _SWEEPER))
    beat = used_by(session, names.beat)
    if beat is not None and not _is_beat(session, names, beat):
        strangers.append(_stranger(session, names.beat, beat, _BEAT))
    yield from strangers
    if not strangers:
        yield ok("lock holders", "no stranger is seen to hold a lock of the job table")


_SWEEPER = (
    "no worker: no delayed job becomes due, and no job of a dead worker comes back, while it does"
)
_BEAT = "no beat: no beat becomes active while it does"


def _is_consumer(session: Session, table: str, names: LockNames, connection_id: int) -> bool:
    """Whether that session holds the lock of a consumer, as each sweeper does."""
    own = Statements("celery_mysqllock.cli.checks", "checks.sql", jobs=table, **table_names(table))
    users = session.query(own["users"])
    if any(used_by(session, names.consumer(user)) == connection_id for (user,) in users):
        return True
    # it may have ended meanwhile
    return used_by(session, names.sweeper) != connection_id


def _is_beat(session: Session, names: LockNames, connection_id: int) -> bool:
    """Whether that session has, or gets, the second lock of an active beat."""
    until = time.monotonic() + _ACTIVATION
    while used_by(session, names.active_beat) != connection_id:
        if used_by(session, names.beat) != connection_id:
            return True  # it may have ended meanwhile
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def _stranger(session: Session, name: str, connection_id: int, what: str) -> Finding:
    seen = session.query(_statements["login_of"], {"id": connection_id})
    login = f", of {seen[0][0]} at {seen[0][1]}," if seen else ""
    return warning(
        "lock holders",
        f"Session {connection_id}{login} holds {name}, and is {what}.",
        f"KILL {connection_id} as an administrator, and see who may log in to this server: named "
        "locks need no privilege.",
    )
