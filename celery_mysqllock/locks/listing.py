"""The locks of a namespace with their holders and waiting sessions, as far as the server tells.

MySQL keeps a list in ``performance_schema``, MariaDB with ``performance_schema=ON`` and its
instrument on, or with the plugin METADATA_LOCK_INFO. Where there is no list, or this user may not
read it, only the locks are found that the sessions which this user sees are waiting for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from celery_mysqllock.exceptions import ConnectionLost, DatabaseError
from celery_mysqllock.locks.holder import read_holder
from celery_mysqllock.mysql import Statements, is_in_namespace, used_by

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from celery_mysqllock.locks.holder import Holder
    from celery_mysqllock.mysql import Session

_statements = Statements("celery_mysqllock.locks", "listing.sql")
# The GET_LOCK that a session waits in; those of the same statement that do not wait have a 0.
_WAITS = re.compile(r"GET_LOCK\('([^']*)', ?[1-9]\d*\)")


@dataclass(frozen=True)
class Waiter:
    """A session that waits for a lock; all but its connection id are None if the server hides them.

    Attributes:
        connection_id: The server's number for the session that waits.
        user: The MySQL user.
        host: The client's address and port, as the server sees it.
        seconds: For how long at least: a longer wait begins anew each minute.
    """

    connection_id: int
    user: str | None = None
    host: str | None = None
    seconds: int | None = None

    def __str__(self) -> str:
        origin = f" of {self.user} from {self.host}" if self.user else ""
        since = "" if self.seconds is None else f", for {self.seconds} s or more"
        return f"session {self.connection_id}{origin}{since}"


@dataclass(frozen=True)
class HeldLock:
    """A lock that is held.

    Attributes:
        holder: Its holder, and the lock's full name.
        waiters: The sessions that wait for it.
    """

    holder: Holder
    waiters: tuple[Waiter, ...]


@dataclass(frozen=True)
class Listing:
    """The locks of a namespace.

    Attributes:
        locks: The held ones, by name; with a limit, those that most sessions wait for.
        is_whole: Whether the server lists all held locks.
        held: How many are held, whatever the limit.
        waited_for: How many of these sessions wait for.
        waiters: How many sessions wait for them.
    """

    locks: tuple[HeldLock, ...]
    is_whole: bool
    held: int
    waited_for: int
    waiters: int


class _Visible(NamedTuple):
    """A session that this user sees."""

    user: str
    host: str
    seconds: int
    state: str | None
    statement: str | None


def list_locks(
    session: Session,
    namespace: str,
    *,
    also: Collection[str] = (),
    limit: int | None = None,
) -> Listing:
    """List the locks of the namespace that are held now.

    Args:
        session: Any session; what it sees depends on its user.
        namespace: The first part of their names.
        also: Full names of others to ask for, such as that of the beat.
        limit: Most locks to describe, which takes up to three statements each; None for all.
    """
    visible = _sessions(session)
    tickets = _from_server(session)
    held = _held(tickets or ())
    waiting = [*_waiting_in(visible), *_waiting(tickets or ())]
    names = {*also, *(name for name, _ in waiting)} - held.keys()
    held |= {name: used for name in names if (used := used_by(session, name)) is not None}
    waiters = {
        name: _waiters(name, waiting, visible)
        for name in held
        if name in also or is_in_namespace(name, namespace)
    }
    chosen = sorted(waiters, key=lambda name: (-len(waiters[name]), name))[:limit]
    return Listing(
        tuple(
            HeldLock(read_holder(session, held[name], name), waiters[name])
            for name in (sorted(chosen) if limit is None else chosen)
        ),
        is_whole=tickets is not None,
        held=len(waiters),
        waited_for=sum(map(bool, waiters.values())),
        waiters=sum(map(len, waiters.values())),
    )


def read_lock(session: Session, name: str) -> HeldLock | None:
    """Describe one lock by its full name, None when it is free."""
    connection_id = used_by(session, name)
    if connection_id is None:
        return None
    visible = _sessions(session)
    waiting = [*_waiting_in(visible), *_waiting(_from_server(session) or ())]
    holder = read_holder(session, connection_id, name)
    return HeldLock(holder, _waiters(name, waiting, visible))


def lists_locks(session: Session) -> bool:
    """Whether the server has a list of all locks, which this session's user may read."""
    return _from_server(session) is not None


def _sessions(session: Session) -> dict[int, _Visible]:
    return {row[0]: _Visible(*row[1:]) for row in session.query(_statements["sessions"])}


_Ticket = tuple[str, int, int]  # the lock's name, a session, and whether it holds the lock


def _from_server(session: Session) -> list[_Ticket] | None:
    """The server's list, None when there is none, or none for this user."""
    for source in ("metadata_locks", "metadata_lock_info"):
        try:
            if source != "metadata_locks" or session.value(_statements["is_instrumented"]):
                return session.query(_statements[source])
        except ConnectionLost:
            raise
        except DatabaseError:
            continue
    return None


def _held(tickets: Iterable[_Ticket]) -> dict[str, int]:
    return {name: connection_id for name, connection_id, is_held in tickets if is_held}


def _waiting(tickets: Iterable[_Ticket]) -> Iterator[tuple[str, int]]:
    return ((name, connection_id) for name, connection_id, is_held in tickets if not is_held)


def _waiting_in(visible: dict[int, _Visible]) -> Iterator[tuple[str, int]]:
    """The locks that sessions wait for, read from the statements that they run."""
    for connection_id, seen in visible.items():
        found = _WAITS.search(seen.statement or "") if seen.state == "User lock" else None
        if found:
            yield found[1], connection_id


def _waiters(
    name: str, waiting: Iterable[tuple[str, int]], visible: dict[int, _Visible]
) -> tuple[Waiter, ...]:
    found = sorted({connection_id for waited_for, connection_id in waiting if waited_for == name})
    return tuple(
        Waiter(connection_id, seen.user, seen.host, seen.seconds)
        if (seen := visible.get(connection_id))
        else Waiter(connection_id)
        for connection_id in found
    )
