"""Background threads: no signal is delivered to them, and none of them ends in silence."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)


def start_thread(
    run: Callable[[], object], name: str, on_crash: Callable[[BaseException], object] | None = None
) -> threading.Thread:
    """Start a daemon thread with all signals blocked.

    The system delivers a signal to any thread that does not block it. Celery's pool processes
    block SIGTERM in their main thread while they hold a lock that all of them share; were it
    delivered to a thread of ours meanwhile, it would end the process, and with it the pool.

    Args:
        run: What the thread does. It handles the errors that it expects.
        name: The thread's name.
        on_crash: Called in the thread, after the error was logged, when ``run`` has raised any
            error at all: to end what nobody serves any more. None where that ends nothing.
    """

    def supervised() -> None:
        try:
            run()
        except BaseException as error:
            # a program's handler may fail, and what is to be ended waits for it
            with contextlib.suppress(Exception):
                logger.critical("The thread %s has ended with an error", name, exc_info=True)
            if on_crash is not None:
                on_crash(error)
            if not isinstance(error, Exception):
                raise

    thread = threading.Thread(target=supervised, name=name, daemon=True)
    # A new thread inherits the mask of the one that starts it. The mask is asked for first: a
    # signal that came just before may raise out of the call that blocks, which has blocked by then.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        thread.start()
    finally:
        # Not the mask of before: where threads are greenlets, another one may be starting a thread
        # at the same time, and its mask of before is ours.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals() - before)
    return thread
