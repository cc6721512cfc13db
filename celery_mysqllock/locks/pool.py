"""Idle sessions of this process, kept for the next lock so that it need not open one."""

from __future__ import annotations

import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from celery_mysqllock.exceptions import ConnectionLost
from celery_mysqllock.locks.cluster import refuse_multi_primary
from celery_mysqllock.mysql import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery_mysqllock.mysql import Address

# Most idle sessions of one endpoint; any number may be in use.
_MOST_IDLE = 16
# Seconds of idleness after which a session is asked for a sign of life before it is used again.
_FRESH = 1.0
# Most seconds after which an idle session is closed. At session_timeout the server would end it,
# unnoticed here.
_IDLE = 60.0


@dataclass(frozen=True)
class Endpoint:
    """The address and options with which sessions for locks are opened.

    Attributes:
        address: The database.
        session_timeout: The session's ``wait_timeout``, whole seconds.
        allow_multi_primary: Whether a server of which there are several primaries may be used.
    """

    address: Address
    session_timeout: int
    allow_multi_primary: bool = False

    @property
    def read_timeout(self) -> float:
        """Seconds in which the server has to answer a statement that does not wait.

        So far below ``session_timeout`` that a holder, which asks at a third of it, knows of a loss
        before the server frees the lock.
        """
        return min(5.0, self.session_timeout / 3)

    def open(self) -> Session:
        """Open a session; errors as in ``Session.open``.

        Raises:
            MultiPrimaryServer: The server is one of several primaries, and that is not allowed.
        """
        session = Session(
            self.address,
            idle_timeout=self.session_timeout,
            read_timeout=self.read_timeout,
            # the pool asks one that rested, and KeepAlive one that holds a lock
            rest=None,
        ).open()
        try:
            if not self.allow_multi_primary:
                refuse_multi_primary(session)
        except BaseException:
            session.close()
            raise
        return session


class Pool:
    """The idle sessions of one endpoint, the last used first.

    Args:
        endpoint: What they are opened with.
        kept: Called when there is one more, so that ``close_old`` gets called in time.
    """

    def __init__(self, endpoint: Endpoint, kept: Callable[[], None]) -> None:
        self.endpoint = endpoint
        self._kept = kept
        self._idle: deque[tuple[float, Session]] = deque()

    def take(self) -> tuple[Session, bool]:
        """A session that is alive, and whether it was opened just now; errors as in ``open``.

        A session that was idle for more than a second is pinged first. One that was idle for less
        may turn out to be dead at its first statement, when it holds nothing.
        """
        while True:
            try:
                used, session = self._idle.pop()
            except IndexError:
                return self.endpoint.open(), True
            try:
                if time.monotonic() - used > _FRESH:
                    session.ping()
            except ConnectionLost:
                # Those that were idle for longer are most likely dead too; trying each could take
                # long.
                self.clear()
            except BaseException:
                session.close()
                raise
            else:
                return session, False

    def put_back(self, session: Session) -> None:
        """Keep a session that holds nothing, or close it when enough are kept."""
        if len(self._idle) < _MOST_IDLE and session.is_open:
            self._idle.append((time.monotonic(), session))
            self._kept()
        else:
            session.close()

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A session for some questions, put back afterwards; errors as in ``take``."""
        session, _ = self.take()
        try:
            yield session
        except BaseException:
            # An exception of a signal may have left an answer unread.
            session.close()
            raise
        self.put_back(session)

    def clear(self) -> None:
        """Close the idle sessions."""
        while self._idle:
            self._idle.pop()[1].close()

    def close_old(self) -> float | None:
        """Close the sessions that have been idle for long.

        Returns:
            Seconds until there is one to close, None when none is idle.
        """
        longest = min(_IDLE, self.endpoint.session_timeout * 2 / 3)
        while True:
            try:
                used, session = self._idle.popleft()
            except IndexError:
                return None
            left = used + longest - time.monotonic()
            if left > 0:
                self._idle.appendleft((used, session))
                return left
            session.close()
