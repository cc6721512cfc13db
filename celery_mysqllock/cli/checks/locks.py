"""Named locks: a round trip on this server, and who holds the locks of the job table."""

from __future__ import annotations

import secrets
import select
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from celery_mysqllock.cli.checks.check import STATEMENTS, ok, problem, warning
from celery_mysqllock.exceptions import (
    DatabaseError,
    Interrupted,
    MissingPrivilege,
    MultiPrimaryServer,
    NoSuchSession,
)
from celery_mysqllock.jobs import LockNames
from celery_mysqllock.jobs.ephemeral import table_names
from celery_mysqllock.locks.cluster import refuse_multi_primary
from celery_mysqllock.mysql import (
    Session,
    Statements,
    get_lock,
    own_lock_name,
    release_lock,
    used_by,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_mysqllock.cli.checks.check import Finding, Target

_SLEEP = 3  # seconds that a session sleeps if it is not woken
_AGAIN = 0.2  # seconds until KILL QUERY is repeated, since it may have come too early
_FREED = 5.0  # seconds within which the lock of a killed session must be free
# Seconds in which a beat that has just become active takes both of its locks.
_ACTIVATION = 3.0


def check_cluster(target: Target) -> Iterator[Finding]:
    """Whether the server is one of several primaries."""
    try:
        refuse_multi_primary(target.session)
    except MultiPrimaryServer as error:
        if target.allow_multi_primary:
            advice = "allow_multi_primary says so: make sure that all holders use this very node."
            yield warning("cluster", str(error), advice)
        else:
            yield problem("cluster", str(error), "")
    else:
        yield ok("cluster", "not one of several primaries (Galera, Group Replication)")


def check_locks(target: Target) -> Iterator[Finding]:
    """Take a lock of an unused name, wake a session, and end one."""
    address = target.session.address
    name = own_lock_name("doctor", secrets.token_hex(8))
    with Session(address) as one, Session(address) as two:
        began = time.monotonic()
        wrong = _wrong_with_locks(one, two, name)
        took = time.monotonic() - began
        if wrong is None:
            yield ok("locks", f"taken, refused, released and freed by KILL, in {took * 1e3:.0f} ms")
        else:
            yield wrong
            return
    with Session(address) as one, Session(address) as two:
        yield _wake(one, two)


def _wrong_with_locks(one: Session, two: Session, name: str) -> Finding | None:
    if not get_lock(one, name, 0):
        return problem("locks", f"GET_LOCK({name!r}) says that an unused lock is held.", _ITSELF)
    holder = used_by(one, name)
    if holder != one.connection_id:
        return problem(
            "locks",
            f"Session {one.connection_id} has taken a lock, and IS_USED_LOCK says that "
            f"{holder or 'nobody'} holds it.",
            _ITSELF,
        )
    if get_lock(two, name, 0):
        text = "Two sessions have taken the same lock, so they are on different servers."
        return problem("locks", text, _ITSELF)
    if not release_lock(one, name) or not get_lock(two, name, 1):
        return problem("locks", "A lock that was released could not be taken again.", _ITSELF)
    return _ends(one, two, name)


_ITSELF = "Connect to the server itself, past any proxy or load balancer."


def _ends(one: Session, two: Session, name: str) -> Finding | None:
    """KILL the second session, which holds the lock."""
    try:
        one.execute("KILL %s", (two.connection_id,))
    except (MissingPrivilege, NoSuchSession) as error:
        return problem("locks", f"A session of the same user cannot be killed: {error}", _ITSELF)
    until = time.monotonic() + _FREED
    while used_by(one, name) is not None:
        if time.monotonic() > until:
            text = f"The lock of a killed session was still held {_FREED:.0f} s later."
            return problem("locks", text, _ITSELF)
        time.sleep(0.01)
    return None


def _wake(one: Session, two: Session) -> Finding:
    """KILL QUERY the first session's statement, as publishers do to idle consumers."""
    began = time.monotonic()
    one.send(f"DO SLEEP({_SLEEP})")
    try:
        while not select.select([one.fileno()], [], [], _AGAIN)[0]:
            two.execute("KILL QUERY %s", (one.connection_id,))
    except (MissingPrivilege, NoSuchSession) as error:
        return problem(
            "waking", f"KILL QUERY fails, so idle consumers cannot be woken: {error}", _ITSELF
        )
    took = time.monotonic() - began
    with suppress(Interrupted, DatabaseError):
        one.receive()
    if took >= _SLEEP:
        return problem(
            "waking",
            "KILL QUERY has no effect, so idle consumers find jobs by polling_interval only.",
            _ITSELF,
        )
    return ok("waking", "KILL QUERY wakes a session of the same user")


def check_lock_holders(target: Target) -> Iterator[Finding]:
    """Whether a worker holds the sweeper's lock, and a beat the active beat's."""
    session, table = target.session, target.table or ""
    names = LockNames.of(session, table)
    strangers = []
    sweeper = used_by(session, names.sweeper)
    # it cannot be told without the right to read the consumers
    with suppress(MissingPrivilege):
        if sweeper is not None and not _is_consumer(session, table, names, sweeper):
            strangers.append(_stranger(session, names.sweeper, sweeper, _SWEEPER))
    beat = used_by(session, names.beat)
    if beat is not None and not _is_beat(session, names, beat):
        strangers.append(_stranger(session, names.beat, beat, _BEAT))
    yield from strangers
    if not strangers:
        yield ok("lock holders", "no stranger holds a lock of the job table")


_SWEEPER = (
    "no worker: no delayed job becomes due, and no job of a dead worker comes back, while it does"
)
_BEAT = "no beat: no beat becomes active while it does"


def _is_consumer(session: Session, table: str, names: LockNames, connection_id: int) -> bool:
    """Whether that session holds a consumer's lock, as each sweeper does."""
    own = Statements("celery_mysqllock.cli.checks", "checks.sql", jobs=table, **table_names(table))
    users = session.query(own["users"])
    if any(used_by(session, names.consumer(user)) == connection_id for (user,) in users):
        return True
    # it may have ended meanwhile
    return used_by(session, names.sweeper) != connection_id


def _is_beat(session: Session, names: LockNames, connection_id: int) -> bool:
    """Whether that session holds, or soon takes, the second lock of an active beat."""
    until = time.monotonic() + _ACTIVATION
    while used_by(session, names.active_beat) != connection_id:
        if used_by(session, names.beat) != connection_id:
            return True  # it may have ended meanwhile
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def _stranger(session: Session, name: str, connection_id: int, what: str) -> Finding:
    seen = session.query(STATEMENTS["login_of"], {"id": connection_id})
    login = f", of {seen[0][0]} at {seen[0][1]}," if seen else ""
    return warning(
        "lock holders",
        f"Session {connection_id}{login} holds {name}, and is {what}.",
        f"KILL {connection_id} as an administrator, and review who may log in to this server: "
        "named locks need no privilege.",
    )
