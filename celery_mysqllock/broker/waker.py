"""Wakes the consuming thread when another thread has something for it to deliver."""

from __future__ import annotations

import contextlib
import socket
import threading
import weakref
from typing import TYPE_CHECKING, Any

from celery.signals import worker_shutting_down

if TYPE_CHECKING:
    from collections.abc import Callable

    from kombu.asynchronous.hub import Hub


_IN_LOOPS: weakref.WeakSet[LoopWaker] = weakref.WeakSet()


@worker_shutting_down.connect(weak=False)
def end_waits(**_: Any) -> None:  # noqa: ANN401 - a signal's
    """Wake the event loop of a worker that is to end: its next timer may be seconds away."""
    for waker in list(_IN_LOOPS):
        waker.wake()


class LoopWaker:
    """Wakes Celery's event loop, or a thread that waits in ``drain_events``."""

    def __init__(self) -> None:
        self._notified = threading.Event()
        self._loop: Hub | None = None
        self._inside: socket.socket | None = None
        self._outside: socket.socket | None = None

    def notify(self) -> None:
        """There is something to deliver, or an error to raise. From any thread, never waits."""
        self._notified.set()
        self.wake()

    def wake(self) -> None:
        """Start another round of Celery's event loop. From any thread and any signal's handler."""
        outside = self._outside
        if outside is not None:
            # full: the loop wakes anyway; closed: there is no loop any more
            with contextlib.suppress(OSError):
                outside.send(b"\0")

    def wait(self, timeout: float | None) -> bool:
        """Wait for ``notify``; False when it was not called in so many seconds."""
        notified = self._notified.wait(timeout)
        self._notified.clear()
        return notified

    def attach(self, loop: Hub, deliver: Callable[[], None]) -> None:
        """Have the event loop call ``deliver`` after each ``notify``, in its own thread."""
        self._inside, self._outside = socket.socketpair()
        self._inside.settimeout(0)
        self._outside.settimeout(0)
        self._loop = loop
        _IN_LOOPS.add(self)
        loop.add_reader(self._inside, self._answer, deliver)
        self.notify()

    def _answer(self, deliver: Callable[[], None]) -> None:
        if self._inside is not None:
            with contextlib.suppress(BlockingIOError):
                while len(self._inside.recv(4096)) == 4096:  # noqa: PLR2004 - a full read
                    continue
        deliver()

    def close(self) -> None:
        """Leave the event loop."""
        if self._inside is not None and self._outside is not None:
            if self._loop is not None:
                self._loop.remove(self._inside)
            self._inside.close()
            self._outside.close()
            self._inside = self._outside = None
