"""Whether gevent or eventlet has patched this process, and what eventlet then needs."""

from __future__ import annotations

import sys


def has_gevent() -> bool:
    """Whether gevent has patched the sockets of this process."""
    return _is_patched("gevent.monkey", "is_module_patched")


def has_eventlet() -> bool:
    """Whether eventlet has. Then only one greenlet at a time may listen to a socket."""
    return _is_patched("eventlet.patcher", "is_monkey_patched")


def has_data(descriptor: int) -> bool:
    """Whether a read would return at once; False where there is no such socket any more.

    Asks the system itself, past eventlet, and does not wait.
    """
    if descriptor < 0:
        return False
    select = sys.modules["eventlet.patcher"].original("select")
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def _is_patched(module: str, question: str) -> bool:
    # Looked up, not imported: neither library is there unless the program has loaded it.
    loaded = sys.modules.get(module)
    return loaded is not None and bool(getattr(loaded, question)("socket"))
