"""A hold of a named lock on a session of its own, which is kept alive while it is held."""

from __future__ import annotations

import logging
import secrets
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from celery_mysqllock.exceptions import (
    ConnectionLost,
    DatabaseError,
    Interrupted,
    LockError,
    LockLost,
)
from celery_mysqllock.locks.clock import now
from celery_mysqllock.locks.hold import Hold
from celery_mysqllock.locks.holder import NO_INTRODUCTION, introduction
from celery_mysqllock.mysql import get_lock, used_by

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery_mysqllock.locks.hold import Fence
    from celery_mysqllock.locks.keep_alive import KeepAlive
    from celery_mysqllock.locks.mutex import Acquisition, Mutex, Semaphore
    from celery_mysqllock.locks.pool import Pool
    from celery_mysqllock.mysql import Session

logger = logging.getLogger(__name__)

# A sign of life is asked for three times in session_timeout.
_PART = 3
# Seconds after which a statement is spent to tell others what holds the lock.
_WORTH_TELLING = 0.2
# Seconds for an answer when the server may have freed the lock already, for example after SIGSTOP.
_LAST_CHANCE = 1.0
_ALL_AT_ONCE_SINCE = (10, 5, 2)  # MariaDB's RELEASE_ALL_LOCKS


class SessionHold(Hold):
    """A hold of a lock by a session of this process.

    Args:
        acquisition: The lock that the session has taken.
        session: The session that holds it.
        mutex: Frees it.
        pool: Where the session goes afterwards.
        keep_alive: Keeps the session alive.
        note: What the holder does.
        on_lost: Called when the lock is lost.
    """

    def __init__(  # noqa: PLR0913 - all that belongs to a held lock
        self,
        acquisition: Acquisition,
        session: Session,
        *,
        mutex: Mutex | Semaphore,
        pool: Pool,
        keep_alive: KeepAlive,
        note: str | None,
        on_lost: Callable[[], object] | None,
    ) -> None:
        super().__init__(acquisition.name, note=note, on_lost=on_lost)
        self.session = session
        self._named = mutex
        self._reuse = acquisition.reuse
        self._pool = pool
        self._keep_alive = keep_alive
        # When the server last heard of this session, at the earliest.
        self._alive_at = acquisition.sent
        self._asked_at: float | None = None
        self._answer_due = 0.0
        self._is_introduced = False
        self._fence: str | None = None
        self._has_fence = False
        self._timeout = float(pool.endpoint.session_timeout)

    # -- for the holder ---------------------------------------------------------------------------

    def is_sure(self) -> bool:
        """As in ``Hold``; no longer sure once the server may have freed the lock."""
        return not self.is_over and now() < self._alive_at + self._timeout

    def verify(self) -> None:
        """As in ``Hold``: one statement on the session that holds the lock."""
        self.raise_if_lost()
        sent = now()
        with self._asking():
            # Asked twice, as a killed statement of MariaDB answers NULL as well.
            if self._holds_it() or self._holds_it():
                self._alive_at = max(sent, self._alive_at)
            elif self.lose("the server says that this session does not hold it"):
                self.session.shutdown()
        self.raise_if_lost()

    def _holds_it(self) -> bool:
        while True:
            try:
                return used_by(self.session, self.name) == self.session.connection_id
            except Interrupted:
                continue

    def fence(self) -> Fence:
        """As in ``Hold``.

        The session takes a second lock, whose name is never used again; the condition is that one
        session has both. The session's connection id alone would not do: after a restart the server
        gives it to another session. RAND() keeps the optimizer from evaluating the condition once
        for the statement, before it waits for a row: so it is evaluated for each row that it has
        got (MySQL 9.7, MariaDB 10.11).
        """
        self.raise_if_lost()
        if self._fence is None:
            second = f"mysqllock:fence:{secrets.token_hex(16)}"
            self._has_fence = True
            with self._asking():
                self._take_fence(second)
            self.raise_if_lost()
            self._fence = second
        mark = self._fence[-8:]
        name, fence = f"mysqllock_name_{mark}", f"mysqllock_fence_{mark}"
        return (
            f"IS_USED_LOCK(IF(RAND() < 2, %({name})s, NULL)) = IS_USED_LOCK(%({fence})s)",
            {name: self.name, fence: self._fence},
        )

    def _take_fence(self, fence: str) -> None:
        try:
            get_lock(self.session, fence, 0)
        except (Interrupted, LockError):
            # A KILL QUERY meant for the wait before has hit it. Taking it twice does no harm.
            get_lock(self.session, fence, 0)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except ConnectionLost as error:
            self._gone(error)
        except (DatabaseError, LockError):
            raise
        except BaseException as error:
            # For example a time limit. The driver closes a connection whose answer was not read.
            self.lose(f"{type(error).__name__} interrupted a question to the server")
            self.session.shutdown()
            raise

    def _gone(self, error: ConnectionLost) -> None:
        self.lose(f"its session has ended (KILL, shutdown, timeout or network): {error}")

    def release(self) -> None:
        """As in ``Hold``; the session goes back to the pool."""
        self.end()
        try:
            freed = self._named.free(self.session, self.name)
        except ConnectionLost as error:
            raise LockLost(
                f"The lock {self.name!r} was lost before its release, so another holder may have "
                f"had it: {error}"
            ) from error
        finally:
            self._keep_alive.discard(self)
        if not freed:
            raise LockLost(
                f"The lock {self.name!r} was lost before its release: the server says that this "
                "session did not hold it."
            )
        if self._reuse and self._clear():
            self._pool.put_back(self.session)
        else:
            self.session.close()

    def _clear(self) -> bool:
        """Leave nothing on the session for the next lock; False when that cannot be done."""
        server = self.session.server
        try:
            if self._is_introduced:
                self.session.execute(NO_INTRODUCTION)
            if self._has_fence:
                if server.is_mariadb and server.version < _ALL_AT_ONCE_SINCE:
                    return False
                self.session.value("SELECT RELEASE_ALL_LOCKS()")
        except DatabaseError:
            return False  # the lock is released, and that is what counts
        return True

    def drop(self) -> None:
        """As in ``Hold``: the session ends, and with it all that it holds."""
        self._over = True
        self.session.shutdown()

    # -- for KeepAlive ----------------------------------------------------------------------------

    @property
    def is_settled(self) -> bool:
        """As in ``KeptAlive``."""
        return self.is_over and self._asked_at is None

    def fileno(self) -> int:
        """As in ``KeptAlive``."""
        return self.session.fileno()

    def tend(self) -> None:
        """As in ``KeptAlive``."""
        at = now()
        if self._asked_at is not None:
            if at >= self._answer_due:
                self._no_answer(at)
        elif at >= self._alive_at + self._timeout / _PART:
            self._ask(None)
        elif not self._is_introduced and time.monotonic() > self.began + _WORTH_TELLING:
            self._introduce()

    def _introduce(self) -> None:
        held = timedelta(seconds=time.monotonic() - self.began)
        # set before it is sent, as a release that comes just now has to clear it
        self._is_introduced = True
        try:
            sql = introduction(self.name, self.note, datetime.now(UTC) - held)
        except Exception:
            # a lock is not lost because it cannot tell people what holds it
            with suppress(Exception):
                logger.exception("The lock %r is held without telling by whom", self.name)
        else:
            self._is_introduced = self._ask(sql)

    def hear(self) -> bool:
        """As in ``KeptAlive``."""
        if self._asked_at is None:
            # There was no question, so the server has ended the session, or another thread uses
            # it. The answer to a ping tells which.
            return self._ask(None) or self.is_over
        try:
            self.session.receive()
            self._alive_at = max(self._asked_at, self._alive_at)
        except DatabaseError as error:
            if isinstance(error, ConnectionLost):
                self._gone(error)
        finally:
            self._asked_at = None
        return True

    def _ask(self, sql: str | None) -> bool:
        at = now()
        read_timeout = self._pool.endpoint.read_timeout
        with self._mutex:
            if self.is_over:
                return False
            try:
                if not self.session.send(sql):
                    return False
            except ConnectionLost as error:
                lost = error
            else:
                self._asked_at = at
                late = at >= self._alive_at + self._timeout
                self._answer_due = at + (min(read_timeout, _LAST_CHANCE) if late else read_timeout)
                return True
        self._gone(lost)
        return False

    def give_up(self, reason: str) -> None:
        """As in ``KeptAlive``."""
        self.lose(reason)
        self.session.shutdown()
        if self._asked_at is not None:
            self.hear()  # fails by now, and lets go of the session

    def _no_answer(self, at: float) -> None:
        self.lose(f"the server has not answered for {at - self._alive_at:.1f} s")
        self.session.shutdown()
        self.hear()
