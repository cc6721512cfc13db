"""One named lock on a session of its own, watched and kept alive for as long as it is held."""

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
    from celery_mysqllock.locks.line import Line, Taken
    from celery_mysqllock.locks.pool import Pool
    from celery_mysqllock.locks.watch import Watch
    from celery_mysqllock.mysql import Session

logger = logging.getLogger(__name__)

# The part of session_timeout after which the server is asked for a sign of life.
_PART = 3
# Seconds after which it is worth a statement to tell others what holds the lock.
_WORTH_TELLING = 0.2
# Seconds for an answer when the server may have freed the lock already (after SIGSTOP, say).
_LAST_CHANCE = 1.0
_ALL_AT_ONCE_SINCE = (10, 5, 2)  # MariaDB's RELEASE_ALL_LOCKS


class SessionHold(Hold):
    """A lock that a session of this process holds.

    Args:
        taken: What the session has taken.
        session: The session that holds it.
        line: Frees it.
        pool: Where the session goes afterwards.
        watch: Who watches it.
        note: What the holder is doing.
        on_lost: Called when it is lost.
    """

    def __init__(  # noqa: PLR0913 - all that belongs to a held lock
        self,
        taken: Taken,
        session: Session,
        *,
        line: Line,
        pool: Pool,
        watch: Watch,
        note: str | None,
        on_lost: Callable[[], object] | None,
    ) -> None:
        super().__init__(taken.name, note=note, on_lost=on_lost)
        self.session = session
        self._line = line
        self._reuse = taken.reuse
        self._pool = pool
        self._watch = watch
        # The server has heard of this session not before this moment.
        self._alive_at = taken.sent
        self._asked_at: float | None = None
        self._answer_due = 0.0
        self._is_introduced = False
        self._fence: str | None = None
        self._has_fence = False
        self._timeout = float(pool.endpoint.session_timeout)

    # -- for the holder ---------------------------------------------------------------------------

    def is_sure(self) -> bool:
        """As in ``Hold``; not sure from when on the server may have freed the lock."""
        return not self.is_over and now() < self._alive_at + self._timeout

    def verify(self) -> None:
        """As in ``Hold``: one statement on the session that holds the lock."""
        self.raise_if_lost()
        sent = now()
        with self._asking():
            # Twice before it is believed: a killed statement of MariaDB answers NULL as well.
            if self._holds_it() or self._holds_it():
                self._alive_at = max(sent, self._alive_at)
            elif self.lose("the server says that this session does not hold it"):
                self.session.hang_up()
        self.raise_if_lost()

    def _holds_it(self) -> bool:
        while True:
            try:
                return used_by(self.session, self.name) == self.session.connection_id
            except Interrupted:
                continue

    def fence(self) -> Fence:
        """As in ``Hold``.

        The session takes a second lock, of a name that nobody else ever uses; the condition is
        that one session has both. The session's number alone would not do: after a restart the
        server gives it to somebody else. RAND() is there for the optimizer, which would otherwise
        look at the lock once for the statement, before it waits for a row; so it looks at each row
        that it has got (MySQL 9.7, MariaDB 10.11).
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
            # Hit by a KILL QUERY that was meant for the wait before. Taken twice does no harm.
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
            # A time limit, say. The driver closes a connection whose answer was not read.
            self.lose(f"{type(error).__name__} interrupted a question to the server")
            self.session.hang_up()
            raise

    def _gone(self, error: ConnectionLost) -> None:
        self.lose(f"its session has ended (KILL, shutdown, timeout or network): {error}")

    def give_back(self) -> None:
        """As in ``Hold``; the session goes back to the pool."""
        self.end()
        try:
            freed = self._line.free(self.session, self.name)
            if freed and self._reuse:
                self._clear()
        except ConnectionLost as error:
            raise LockLost(
                f"The lock {self.name!r} was lost before its release, so somebody else may have "
                f"held it: {error}"
            ) from error
        finally:
            self._watch.discard(self)
        if not freed:
            raise LockLost(
                f"The lock {self.name!r} was lost before its release: the server says that this "
                "session did not hold it."
            )
        if self._reuse:
            self._pool.put_back(self.session)
        else:
            self.session.close()

    def _clear(self) -> None:
        """Leave nothing on the session for the next lock."""
        if self._is_introduced:
            self.session.execute(NO_INTRODUCTION)
        server = self.session.server
        if self._has_fence and server.is_mariadb and server.version < _ALL_AT_ONCE_SINCE:
            self._reuse = False
        elif self._has_fence:
            self.session.value("SELECT RELEASE_ALL_LOCKS()")

    def drop(self) -> None:
        """As in ``Hold``: the session ends, and with it all that it holds."""
        self._over = True
        self.session.hang_up()

    # -- for the watch ----------------------------------------------------------------------------

    @property
    def is_settled(self) -> bool:
        """Whether the hold is over and no answer is outstanding."""
        return self.is_over and self._asked_at is None

    def tend(self) -> None:
        """Ask for a sign of life when it is time, and judge when none came."""
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
        # before it is sent: a release that comes just now has to clear it
        self._is_introduced = True
        try:
            sql = introduction(self.name, self.note, datetime.now(UTC) - held)
        except Exception:
            # it would only tell people what holds the lock
            with suppress(Exception):
                logger.exception("The lock %r is held without telling by whom", self.name)
        else:
            self._is_introduced = self._ask(sql)

    def hear(self) -> bool:
        """Read what has come; False when another thread is reading."""
        if self._asked_at is None:
            # Nobody asked, so the server has ended the session, or another thread is at it. The
            # answer to a ping tells which.
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
        patience = self._pool.endpoint.patience
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
                self._answer_due = at + (min(patience, _LAST_CHANCE) if late else patience)
                return True
        self._gone(lost)
        return False

    def give_up(self, reason: str) -> None:
        """End the hold and its session, whatever state they are in."""
        self.lose(reason)
        self.session.hang_up()
        if self._asked_at is not None:
            self.hear()  # an error by now; lets go of the session

    def _no_answer(self, at: float) -> None:
        self.lose(f"the server has not answered for {at - self._alive_at:.1f} s")
        self.session.hang_up()
        self.hear()
