"""Keeps both ends of a connection on one core while something is measured."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@contextmanager
def on_one_core(pids: Iterable[int]) -> Iterator[None]:
    """Run this process and those on one core for the block; nothing where the system cannot.

    Who asks and who answers take turns, so they lose nothing by it. On two cores an answer takes
    20 or 100 microseconds on the same machine, as the system happens to place them: a halted
    virtual core wakes up slowly. That is more than what is measured.

    Args:
        pids: The servers' processes.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores, pids = os.sched_getaffinity(0), [os.getpid(), *pids]
    _place(pids, {min(cores)})
    try:
        yield
    finally:
        _place(pids, cores)


def _place(pids: Iterable[int], cores: set[int]) -> None:
    for pid in pids:
        # what a thread starts is on its core too
        for thread in psutil.Process(pid).threads():
            os.sched_setaffinity(thread.id, cores)
