"""Background threads that receive no signals and log their errors; what gevent has patched."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
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
    block SIGTERM in their main thread while they hold a lock that all of them share. If one of our
    threads received it meanwhile, it would end the process, and with it the pool.

    Args:
        run: Runs in the thread. It handles the errors that it expects.
        name: The thread's name.
        on_crash: Called in the thread when ``run`` has raised an error, after that was logged: to
            end what depends on the thread. None if nothing does.
    """

    def supervised() -> None:
        try:
            run()
        except BaseException as error:
            # a log handler may fail, and on_crash must be called all the same
            with contextlib.suppress(Exception):
                logger.critical("The thread %s has ended with an error", name, exc_info=True)
            if on_crash is not None:
                on_crash(error)
            if not isinstance(error, Exception):
                raise

    thread = threading.Thread(target=supervised, name=name, daemon=True)
    # A new thread inherits the mask of the one that starts it. The mask is read first: a signal
    # that arrived just before may raise out of the call that blocks, which has blocked by then.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        thread.start()
    finally:
        # Not SIG_SETMASK to the mask before: where threads are greenlets, another one may be
        # starting a thread at the same time, and its mask before is ours.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals() - before)
    return thread


def has_gevent() -> bool:
    """Whether gevent has patched the sockets of this process."""
    return _is_patched("gevent.monkey", "is_module_patched")


def has_eventlet() -> bool:
    """Whether eventlet has patched them. Then one greenlet at a time may wait for a socket."""
    return _is_patched("eventlet.patcher", "is_monkey_patched")


def has_data(descriptor: int) -> bool:
    """Whether a read of the socket would return at once; False when it is closed.

    It asks the system, bypassing eventlet, and does not wait.
    """
    if descriptor < 0:
        return False
    select = sys.modules["eventlet.patcher"].original("select")
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def _is_patched(module: str, question: str) -> bool:
    # Looked up, not imported: only the program decides whether it uses one of these libraries.
    loaded = sys.modules.get(module)
    return loaded is not None and bool(getattr(loaded, question)("socket"))
