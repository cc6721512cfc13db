"""Starts background threads that no signal is ever delivered to."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def start_thread(run: Callable[..., object], name: str) -> threading.Thread:
    """Start a daemon thread with all signals blocked.

    The system delivers a signal to any thread that does not block it. Celery's pool processes
    block SIGTERM in their main thread while they hold a lock that all of them share; were it
    delivered to a thread of ours meanwhile, it would end the process, and with it the pool.
    """
    thread = threading.Thread(target=run, name=name, daemon=True)
    # A new thread inherits the mask of the one that starts it. The mask is asked for first: a
    # signal that came just before may raise out of the call that blocks, which has blocked by then.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        thread.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return thread
