"""Whether a socket has something to read, for eventlet: one greenlet alone may listen there."""

from __future__ import annotations

import sys


def one_reader_only() -> bool:
    """Whether listening to a socket fails the greenlet that reads it, as under eventlet."""
    patcher = sys.modules.get("eventlet.patcher")
    return patcher is not None and bool(patcher.is_monkey_patched("socket"))


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
