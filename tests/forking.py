"""Forked children that do one thing and end, as those of a prefork pool."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable


def fork(what: Callable[[], object]) -> int:
    """Run ``what`` in a forked child and return its pid; it exits with 0 if all went well."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            what()
            code = 0
        finally:
            os._exit(code)
    return child


def wait_for(child: int) -> None:
    """Wait for the child's end, and see that all went well."""
    try:
        eventually(lambda: os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT))
    except AssertionError:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    assert os.waitpid(child, 0)[1] == 0


def in_child(what: Callable[[], object]) -> None:
    """Run it in a forked child and see it succeed."""
    wait_for(fork(what))
