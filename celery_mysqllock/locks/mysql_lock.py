"""MySQLLock, a lock that a MySQL or MariaDB server keeps."""

from __future__ import annotations

import time
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, cast

from celery_mysqllock.exceptions import (
    ConnectionLost,
    MissingPrivilege,
    NoSuchSession,
)
from celery_mysqllock.locks.clock import Deadline, now
from celery_mysqllock.locks.holder import read_holder
from celery_mysqllock.locks.keep_alive import KeepAlive
from celery_mysqllock.locks.lock import Lock
from celery_mysqllock.locks.mutex import Mutex, Semaphore
from celery_mysqllock.locks.pool import Endpoint, Pool
from celery_mysqllock.locks.process import PerProcess
from celery_mysqllock.locks.session_hold import SessionHold
from celery_mysqllock.mysql import Address, used_by, wait_lock_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery_mysqllock.locks.hold import Hold
    from celery_mysqllock.locks.holder import Holder
    from celery_mysqllock.mysql import Session

_SHORTEST, _LONGEST = 3, 3600  # seconds of session_timeout
# Seconds for which reset() waits at most until the server has ended the holder's session.
_ENDING = 5.0


class MySQLLock(Lock):
    """A lock that a session with the server holds, as long as the session lasts.

    Each held lock has a session of its own, opened in the process that takes it. The server frees
    the lock when the session ends: at the release, when the process dies in any way, and at the
    latest ``session_timeout`` seconds after its machine has vanished from the network. A thread
    keeps the session alive (three times in ``session_timeout``) and notices at once when it has
    ended. A holder that is cut off from the server knows of its loss before the server frees the
    lock. A process that is stopped for longer than ``session_timeout`` (SIGSTOP, a sleeping
    machine, an extension that keeps the GIL) loses the lock; ``fence`` is for writes that must not
    happen then.

    Not for a Galera cluster or Group Replication with several primaries: there a lock is known to
    one node only. Locks are not replicated: a failover to another server loses them all. With a
    ``limit`` above 1 all holders must use the same limit; a lock of one holder and a lock of
    several do not exclude each other, even under one name.

    Args:
        name: The lock's name within the namespace. See ``lock_name`` for what becomes of names
            that are long or not plain ASCII.
        url: ``mysql://user:password@host:3306/database``, or an ``Address``.
        namespace: First part of the full name, None for the database's name as the server spells
            it.
        limit: How many may hold it at a time. Those that wait get it in the order in which they
            came.
        session_timeout: Whole seconds, 3 to 3600, see above.
        note: What the holder does; ``holder()`` shows it to others.
        on_lost: Called with this object once, at once, in another thread, when the lock is lost
            while it is held; never after ``release`` has returned.
        allow_multi_primary: Whether a server that is one of several primaries may be used.

    Raises:
        ValueError: ``limit`` or ``session_timeout`` is not allowed.
        SettingsError: The URL cannot be read.
        LockError: The name or the namespace is empty.
    """

    def __init__(  # noqa: PLR0913 - the options of a lock
        self,
        name: str,
        *,
        url: str | Address,
        namespace: str | None = None,
        limit: int = 1,
        session_timeout: int = 30,
        note: str | None = None,
        on_lost: Callable[[MySQLLock], object] | None = None,
        allow_multi_primary: bool = False,
    ) -> None:
        if not _SHORTEST <= session_timeout <= _LONGEST or session_timeout != int(session_timeout):
            raise ValueError(
                f"session_timeout={session_timeout!r}: it takes whole seconds from {_SHORTEST} to "
                f"{_LONGEST}."
            )
        address = _parsed(url) if isinstance(url, str) else url
        self._spelled = (name, None if namespace else address.database)
        namespace = namespace or address.database
        super().__init__(name, namespace=namespace, limit=limit, note=note, on_lost=on_lost)
        self._endpoint = Endpoint(address, int(session_timeout), allow_multi_primary)
        self._mutex = _mutex(self.name, self.names)

    def _take(self, wait: int | None, kept: list[Hold]) -> bool:
        pool, deadline = self._pool(), Deadline(wait)
        while True:
            session, is_new = pool.take()
            took = time.monotonic()
            try:
                return self._take_with(session, pool, deadline, kept)
            except ConnectionLost:
                # It had ended in the pool. Nothing is held, so another one may be tried.
                if is_new or time.monotonic() - took > self._endpoint.read_timeout:
                    raise

    def _take_with(
        self, session: Session, pool: Pool, deadline: Deadline, kept: list[Hold]
    ) -> bool:
        keep_alive = _own().keep_alive
        self._spell_as(session)
        try:
            acquisition = self._mutex.take(session, deadline)
            if acquisition is None:
                pool.put_back(session)
                return False
            if now() - acquisition.sent > self._endpoint.session_timeout / 3:
                # The answer may have been on its way for long: is the session still there?
                session.ping()
            hold = SessionHold(
                acquisition,
                session,
                mutex=self._mutex,
                pool=pool,
                keep_alive=keep_alive,
                note=self.note,
                on_lost=self._on_loss(),
            )
            kept.append(hold)
            keep_alive.add(hold)
        except BaseException:
            # The session may hold the lock, or have an unread answer: it must end.
            session.close()
            raise
        return True

    def _spell_as(self, session: Session) -> None:
        """Name the lock after the database as the server spells it: for some, "Shop" is "shop"."""
        name, database = self._spelled
        if database is not None and database != session.database:
            self._spelled = (name, session.database)
            self._set_names(session.database, name, len(self.names))
            self._mutex = _mutex(self.name, self.names)

    @contextmanager
    def _asking(self) -> Iterator[Session]:
        with self._pool().session() as session:
            self._spell_as(session)
            yield session

    def _pool(self) -> Pool:
        return _own().pool(self._endpoint)

    @property
    def session(self) -> Session:
        """The session that holds the lock: a transaction on it ends with the lock, not later.

        Leave it as you found it: in no transaction, and with no other lock.

        Raises:
            LockNotOwned: This object does not hold the lock.
            LockLost: It was lost.
        """
        hold = self._held()
        hold.raise_if_lost()
        assert isinstance(hold, SessionHold)  # noqa: S101 - _take makes no other
        return hold.session

    def locked(self) -> bool:
        """As in ``Lock``; asks the server."""
        with self._asking() as session:
            return any(used_by(session, name) is not None for name in self.names)

    def holder(self) -> Holder | None:
        """As in ``Lock``, as far as the server can tell; ``Holder`` says what that needs."""
        with self._asking() as session:
            for name in self.names:
                connection_id = used_by(session, name)
                if connection_id is not None:
                    return read_holder(session, connection_id, name)
        return None

    def fileno(self) -> int:
        """The socket of the session that holds the lock; the lock lasts while a copy of it is open.

        For a process that has something to do after this one was killed, before the lock is free;
        the server ends the session after ``session_timeout`` in any case. Do not read from it or
        write to it.

        Raises:
            LockNotOwned: This object does not hold the lock.
            LockLost: It was lost.
        """
        hold = cast("SessionHold", self._held())
        hold.raise_if_lost()
        descriptor = hold.session.fileno()
        if descriptor < 0:
            hold.verify()  # closed: raises
        return descriptor

    def reset(self) -> bool:
        """As in ``Lock``, by KILL of the sessions that hold it.

        Raises:
            MissingPrivilege: The holder is another MySQL user, and this one may not KILL it.
        """
        with self._asking() as session:
            ended = [end_holder(session, name) for name in self.names]
        return any(ended)


def end_holder(session: Session, name: str) -> bool:
    """KILL the session that holds the lock of that full name; False when it is free.

    Raises:
        MissingPrivilege: The holder is another MySQL user, and this one may not KILL it.
    """
    holder = used_by(session, name)
    try:
        # In one statement, so that it hits the session that holds it now.
        session.execute("KILL IS_USED_LOCK(%s)", (name,))
    except NoSuchSession:
        return False
    except MissingPrivilege as error:
        raise MissingPrivilege(
            f"The lock {name!r} is held by another MySQL user (session {holder}), and ending its "
            "session needs the privilege CONNECTION_ADMIN (MySQL 8), 'CONNECTION ADMIN' (MariaDB "
            f"10.5) or SUPER. Reset it as that user, or ask for the GRANT. [{error}]"
        ) from error
    # The session ends a moment after KILL has returned, and the server has no event for that.
    pause, until = 0.001, time.monotonic() + _ENDING
    while holder is not None and used_by(session, name) == holder and time.monotonic() < until:
        time.sleep(pause)
        pause = min(2 * pause, 0.2)
    return True


def _mutex(name: str, names: tuple[str, ...]) -> Mutex | Semaphore:
    return Mutex(name) if len(names) == 1 else Semaphore(names, wait_lock_name(name))


@lru_cache(maxsize=64)
def _parsed(url: str) -> Address:
    return Address.parse(url)


class _Own:
    """The idle sessions of one process, and the thread that keeps its held locks alive."""

    def __init__(self) -> None:
        self.keep_alive = KeepAlive(self._close_old)
        self._pools: dict[Endpoint, Pool] = {}

    def pool(self, endpoint: Endpoint) -> Pool:
        """The idle sessions of the endpoint."""
        pool = self._pools.get(endpoint)
        if pool is None:
            pool = self._pools.setdefault(endpoint, Pool(endpoint, self.keep_alive.wake))
        return pool

    def _close_old(self) -> float | None:
        left = [pool.close_old() for pool in list(self._pools.values())]
        return min((seconds for seconds in left if seconds is not None), default=None)


_own = PerProcess(_Own)
