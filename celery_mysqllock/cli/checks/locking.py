"""A real round trip of named locks: GET_LOCK, IS_USED_LOCK, KILL QUERY, RELEASE_LOCK, KILL."""

from __future__ import annotations

import secrets
import select
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from celery_mysqllock.cli.checks.finding import ok, problem, warning
from celery_mysqllock.exceptions import (
    DatabaseError,
    Interrupted,
    MissingPrivilege,
    MultiPrimaryServer,
    NoSuchSession,
)
from celery_mysqllock.locks.cluster import refuse_multi_primary
from celery_mysqllock.mysql import Session, get_lock, own_lock_name, release_lock, used_by

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_mysqllock.cli.checks.examined import Examined
    from celery_mysqllock.cli.checks.finding import Finding

_SLEEP = 3  # seconds that a session sleeps unless it is woken
_AGAIN = 0.2  # seconds after which a KILL QUERY is sent again: it may have come too early
_FREED = 5.0  # seconds in which the lock of a killed session has to be free


def check_cluster(examined: Examined) -> Iterator[Finding]:
    """Whether there are several primaries."""
    try:
        refuse_multi_primary(examined.session)
    except MultiPrimaryServer as error:
        if examined.allow_multi_primary:
            advice = "allow_multi_primary says so: make sure that all holders use this very node."
            yield warning("cluster", str(error), advice)
        else:
            yield problem("cluster", str(error), "")
    else:
        yield ok("cluster", "not one of several primaries (Galera, Group Replication)")


def check_locks(examined: Examined) -> Iterator[Finding]:
    """Take a lock of a name that nobody uses, wake a session, and end one."""
    address = examined.session.address
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
        return problem("locks", f"GET_LOCK({name!r}) says that it is held: by nobody.", _ITSELF)
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
        return problem("locks", f"A session of one's own cannot be ended: {error}", _ITSELF)
    until = time.monotonic() + _FREED
    while used_by(one, name) is not None:
        if time.monotonic() > until:
            text = f"The lock of a killed session was still held {_FREED:.0f} s later."
            return problem("locks", text, _ITSELF)
        time.sleep(0.01)
    return None


def _wake(one: Session, two: Session) -> Finding:
    """KILL QUERY the first session's statement, as who publishes does to an idle consumer."""
    began = time.monotonic()
    one.send(f"DO SLEEP({_SLEEP})")
    try:
        while not select.select([one.fileno()], [], [], _AGAIN)[0]:
            two.execute("KILL QUERY %s", (one.connection_id,))
    except (MissingPrivilege, NoSuchSession) as error:
        return problem(
            "waking", f"KILL QUERY fails, so nobody can wake an idle consumer: {error}", _ITSELF
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
