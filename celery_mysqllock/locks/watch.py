"""The thread that keeps this process's held locks alive and notices at once when one is lost."""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import threading
from typing import TYPE_CHECKING, TypeVar

from celery_mysqllock.mysql.threads import has_data, has_eventlet, start_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from celery_mysqllock.locks.session_hold import SessionHold

T = TypeVar("T")
logger = logging.getLogger(__name__)

# Seconds between two rounds while locks are held: how late a newly held lock is noticed. So the
# hot path wakes nobody: a lock that is held for less is never seen here.
_ROUND = 0.25


class Watch:
    """Watches the sessions of all held locks of one process, in one daemon thread.

    The thread starts with the first lock. It listens to the socket of each session, which becomes
    readable when the server ends it, and asks each for a sign of life in time. It never waits for
    one session: questions are sent in one round and answered in another. While no lock is held
    and no session is idle, it sleeps until it is woken.

    Args:
        close_old: Closes idle sessions; returns seconds until there are more to close, or None.
    """

    def __init__(self, close_old: Callable[[], float | None]) -> None:
        self._close_old = close_old
        # Keys only; the values are of no use. Its single operations are atomic.
        self._holds: dict[SessionHold, None] = {}
        self._changed = False
        self._asleep = False
        self._starting = threading.Lock()
        self._runs = False
        self._bell: socket.socket | None = None

    def add(self, hold: SessionHold) -> None:
        """Watch the hold until it is over."""
        self._holds[hold] = None
        self.stir()

    def discard(self, hold: SessionHold) -> None:
        """Forget a hold that is over."""
        self._holds.pop(hold, None)

    def stir(self) -> None:
        """There is something to watch or to close later: start the thread, or wake it."""
        self._changed = True
        if not self._runs:
            # More than one may be started, when an exception of a signal comes between; see _run.
            start_thread(self._run, "celery-mysqllock watch")
        elif self._asleep:
            self._ring()

    def _ring(self) -> None:
        self._asleep = False
        if self._bell is not None:
            # It is full of rings that are not yet heard: one more is not needed.
            with contextlib.suppress(BlockingIOError):
                self._bell.send(b"\0")

    def _run(self) -> None:
        with self._starting:
            if self._runs:
                return
            self._runs = True
        bell, self._bell = socket.socketpair()
        for end in (bell, self._bell):
            end.settimeout(0)
        # Holds whose socket another thread is reading: left out until the next round.
        busy: set[SessionHold] = set()
        while True:
            try:
                busy = self._round(bell, busy)
            except Exception:
                with contextlib.suppress(Exception):
                    logger.exception("The watch over the held locks failed; it goes on")
                # What failed may fail again at once.
                threading.Event().wait(_ROUND)

    def _round(self, bell: socket.socket, busy: set[SessionHold]) -> set[SessionHold]:
        for hold in list(self._holds):
            if hold.is_settled:
                self.discard(hold)
            else:
                self._attend(hold, hold.tend)
        readable = self._listen(bell, (hold for hold in list(self._holds) if hold not in busy))
        return {hold for hold in readable if not self._attend(hold, hold.hear)}

    def _attend(self, hold: SessionHold, what: Callable[[], T]) -> T | None:
        try:
            return what()
        except Exception as error:
            # One session must not take the watch from the others.
            with contextlib.suppress(Exception):
                logger.exception("The watch over the lock %r failed", hold.name)
            hold.give_up(f"its watch failed: {error!r}")
            self.discard(hold)
            return None

    def _listen(self, bell: socket.socket, holds: Iterable[SessionHold]) -> list[SessionHold]:
        # A selector of its own for each round: there are few sockets and four rounds a second,
        # and a socket that was closed, and its number used again, can do no harm.
        with selectors.DefaultSelector() as selector:
            selector.register(bell, selectors.EVENT_READ)
            one_reader = has_eventlet()
            # Where its user could not read beside us, we look after the pause: a round late.
            for hold in () if one_reader else holds:
                # Closed or replaced at this very moment: the next round sees it.
                with contextlib.suppress(ValueError, KeyError, OSError):
                    selector.register(hold.session.fileno(), selectors.EVENT_READ, hold)
            events = selector.select(self._pause())
        self._asleep = False
        for key, _ in events:
            if key.data is None:
                with contextlib.suppress(BlockingIOError):
                    bell.recv(4096)
        if one_reader:
            return [hold for hold in holds if has_data(hold.session.fileno())]
        return [key.data for key, _ in events if key.data is not None]

    def _pause(self) -> float | None:
        left = self._close_old()
        if self._holds or self._changed:
            self._changed = False
            return _ROUND
        # From here on a change rings. It is looked for once more, lest one before was missed.
        self._asleep = True
        return _ROUND if self._holds or self._changed else left
