"""The thread that keeps the held locks of this process alive, and notices at once a lost one."""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import threading
from typing import TYPE_CHECKING, Protocol, TypeVar

from celery_mysqllock.mysql.threads import has_data, has_eventlet, start_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")
logger = logging.getLogger(__name__)

# Seconds between two rounds while locks are held: how late a newly held lock is noticed. A lock
# that is held for less is not noticed at all, so the hot path need not wake the thread.
_ROUND = 0.25


class KeptAlive(Protocol):
    """A hold as ``KeepAlive`` sees it."""

    @property
    def name(self) -> str:
        """The lock's name, for the log."""

    @property
    def is_settled(self) -> bool:
        """Whether the hold is over and no answer is outstanding."""

    def fileno(self) -> int:
        """The socket of its session, -1 when that is closed."""

    def tend(self) -> None:
        """Ask for a sign of life when it is time, and judge when none came; does not wait."""

    def hear(self) -> bool:
        """Read what has come; False when another thread is reading."""

    def give_up(self, reason: str) -> None:
        """End the hold and its session, whatever state they are in."""


class KeepAlive:
    """Keeps the sessions of all held locks of one process alive, in one daemon thread.

    The thread starts with the first lock. It listens to the socket of each session, which becomes
    readable when the server ends it, and asks each for a sign of life in time. It never waits for
    one session: questions are sent in one round and answered in another. While no lock is held and
    no session is idle, it sleeps until it is woken.

    Args:
        close_old: Closes idle sessions; returns seconds until there are more to close, or None.
    """

    def __init__(self, close_old: Callable[[], float | None]) -> None:
        self._close_old = close_old
        # Keys only; the values are of no use. Its single operations are atomic.
        self._holds: dict[KeptAlive, None] = {}
        self._changed = False
        self._asleep = False
        self._starting = threading.Lock()
        self._runs = False
        self._waker: socket.socket | None = None

    def add(self, hold: KeptAlive) -> None:
        """Keep the hold alive until it is over."""
        self._holds[hold] = None
        self.wake()

    def discard(self, hold: KeptAlive) -> None:
        """Forget a hold that is over."""
        self._holds.pop(hold, None)

    def wake(self) -> None:
        """Start the thread, or wake it: there is a new hold, or a session to close later."""
        self._changed = True
        if not self._runs:
            # An exception of a signal may come before the thread runs; then another one is started
            # later, of which _run lets one go on.
            start_thread(self._run, "celery-mysqllock keep-alive")
        elif self._asleep:
            self._interrupt()

    def _interrupt(self) -> None:
        self._asleep = False
        if self._waker is not None:
            # A full socket has enough in it to wake the thread.
            with contextlib.suppress(BlockingIOError):
                self._waker.send(b"\0")

    def _run(self) -> None:
        with self._starting:
            if self._runs:
                return
            self._runs = True
        woken, self._waker = socket.socketpair()
        for end in (woken, self._waker):
            end.settimeout(0)
        # Holds whose socket another thread is reading: left out until the next round.
        busy: set[KeptAlive] = set()
        while True:
            try:
                busy = self._round(woken, busy)
            except Exception:
                with contextlib.suppress(Exception):
                    logger.exception("Keeping the held locks alive failed; it goes on")
                # What failed may fail again at once.
                threading.Event().wait(_ROUND)

    def _round(self, woken: socket.socket, busy: set[KeptAlive]) -> set[KeptAlive]:
        for hold in list(self._holds):
            if hold.is_settled:
                self.discard(hold)
            else:
                self._attend(hold, hold.tend)
        readable = self._listen(woken, (hold for hold in list(self._holds) if hold not in busy))
        return {hold for hold in readable if not self._attend(hold, hold.hear)}

    def _attend(self, hold: KeptAlive, what: Callable[[], T]) -> T | None:
        try:
            return what()
        except Exception as error:
            # An error with one session must not cost the others their locks.
            with contextlib.suppress(Exception):
                logger.exception("Keeping the lock %r alive failed", hold.name)
            hold.give_up(f"its keep-alive failed: {error!r}")
            self.discard(hold)
            return None

    def _listen(self, woken: socket.socket, holds: Iterable[KeptAlive]) -> list[KeptAlive]:
        # Each round has a selector of its own: there are few sockets and four rounds a second, and
        # a socket that was closed, and whose number is used again, does no harm.
        with selectors.DefaultSelector() as selector:
            selector.register(woken, selectors.EVENT_READ)
            one_reader = has_eventlet()
            # Under eventlet one greenlet at a time may wait for a socket, and the lock's user may:
            # so the sockets are looked at after the pause, a round late.
            for hold in () if one_reader else holds:
                # Closed or replaced at this very moment: the next round sees it.
                with contextlib.suppress(ValueError, KeyError, OSError):
                    selector.register(hold.fileno(), selectors.EVENT_READ, hold)
            events = selector.select(self._pause())
        self._asleep = False
        for key, _ in events:
            if key.data is None:
                with contextlib.suppress(BlockingIOError):
                    woken.recv(4096)
        if one_reader:
            return [hold for hold in holds if has_data(hold.fileno())]
        return [key.data for key, _ in events if key.data is not None]

    def _pause(self) -> float | None:
        left = self._close_old()
        if self._holds or self._changed:
            self._changed = False
            return _ROUND
        # From here on a change wakes the thread. One may have come just before.
        self._asleep = True
        return _ROUND if self._holds or self._changed else left
