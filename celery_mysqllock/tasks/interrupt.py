"""Raises an exception in a block that another thread or greenlet is running, and never after it."""

from __future__ import annotations

import ctypes
import signal
import sys
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from celery_mysqllock.mysql.threads import has_eventlet, has_gevent

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

# Rounds of a loop; in the first one the interpreter raises what is outstanding.
_BYTECODES = 10


class Interrupt(Protocol):
    """Raises an exception in the thread or greenlet that armed it, until it is disarmed."""

    def arm(self) -> None:
        """Begin the block; called by the thread or greenlet that runs it."""

    def fire(self, error: Exception) -> None:
        """Raise the error in the block, if it has not ended; called once, by any thread."""

    def disarm(self) -> None:
        """End the block; called by the thread or greenlet that runs it, once or more often."""


def interrupt_here() -> Interrupt:
    """An interrupt of the kind that fits the caller: a greenlet, the main thread, another thread.

    A greenlet is interrupted where it waits. The main thread is interrupted in Python code and in
    blocking calls. Another thread is interrupted in Python code only: a blocking call ends first,
    as Python cannot raise in the middle of one.
    """
    if has_gevent():
        return GreenletInterrupt(sys.modules["gevent"].get_hub().loop.run_callback_threadsafe)
    if has_eventlet():
        hub = sys.modules["eventlet.hubs"].get_hub()
        return GreenletInterrupt(partial(hub.schedule_call_global, 0))
    if threading.current_thread() is threading.main_thread():
        return MainThreadInterrupt()
    return ThreadInterrupt()


class MainThreadInterrupt:
    """Sends the main thread a signal whose handler raises, so that blocking calls end too.

    The handler runs in the main thread itself, so it knows for certain whether the block has ended.
    The signal is SIGURG: the system ignores it by default, and Celery and billiard do not use it.
    """

    SIGNAL = signal.SIGURG
    _armed: list[MainThreadInterrupt] = []  # noqa: RUF012 - all of the main thread's, innermost last
    _chained: Any = None

    def __init__(self) -> None:
        self.error: Exception | None = None

    def arm(self) -> None:
        """Begin the block."""
        handler = signal.getsignal(self.SIGNAL)
        if handler is not MainThreadInterrupt._handle:
            MainThreadInterrupt._chained = handler
            signal.signal(self.SIGNAL, MainThreadInterrupt._handle)
        self._armed.append(self)

    def fire(self, error: Exception) -> None:
        """Raise the error in the block, if it has not ended."""
        self.error = error
        main = threading.main_thread().ident
        if main is not None:
            signal.pthread_kill(main, self.SIGNAL)

    def disarm(self) -> None:
        """End the block."""
        self.error = None
        if self in self._armed:
            self._armed.remove(self)

    @staticmethod
    def _handle(number: int, frame: FrameType | None) -> None:
        for interrupt in reversed(MainThreadInterrupt._armed):
            error, interrupt.error = interrupt.error, None
            if error is not None:
                raise error
        if callable(MainThreadInterrupt._chained):
            MainThreadInterrupt._chained(number, frame)


class ThreadInterrupt:
    """Asks the interpreter to raise in a thread at its next bytecode.

    Python can raise only a class there, so the error has the message of the class.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._thread = 0
        self._fired: type[Exception] | None = None

    def arm(self) -> None:
        """Begin the block."""
        self._thread = threading.get_ident()

    def fire(self, error: Exception) -> None:
        """Raise the error's class in the block, if it has not ended."""
        with self._mutex:
            if self._thread:
                self._fired = type(error)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(self._thread), ctypes.py_object(self._fired)
                )

    def disarm(self) -> None:
        """End the block, and catch an error that was fired too late to be raised in it."""
        try:
            self._disarm()
        except Exception as late:
            if type(late) is not self._fired:
                raise
            self._disarm()

    def _disarm(self) -> None:
        with self._mutex:
            self._thread = 0
        if self._fired is not None:
            # An outstanding error is raised here. Cancelling it with NULL would leave CPython 3.11
            # looking for it for ever: slow from then on, and an endless loop when traced.
            for _ in range(_BYTECODES):
                time.sleep(0)


class GreenletInterrupt:
    """Throws into a greenlet from the hub, which runs when no greenlet does.

    Args:
        schedule: Makes the hub call a function with an argument; any thread may call it.
    """

    def __init__(
        self, schedule: Callable[[Callable[[Exception], None], Exception], object]
    ) -> None:
        self._schedule = schedule
        self._greenlet: Any = None

    def arm(self) -> None:
        """Begin the block."""
        self._greenlet = sys.modules["greenlet"].getcurrent()

    def fire(self, error: Exception) -> None:
        """Raise the error in the block, if it has not ended when the hub comes to it."""
        self._schedule(self._throw, error)

    def disarm(self) -> None:
        """End the block."""
        self._greenlet = None

    def _throw(self, error: Exception) -> None:
        target, self._greenlet = self._greenlet, None
        if target is not None:
            target.throw(error)
