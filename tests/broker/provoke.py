"""Errors that nobody expects, in the threads of a worker: PROVOKE names the one to fail once."""

from __future__ import annotations

import os
from typing import Any

from celery_mysqllock.jobs.bell import Bell
from celery_mysqllock.jobs.fetcher import Fetcher
from celery_mysqllock.jobs.sweeper import Sweeper

#: What each thread does again and again.
ROUNDS: dict[str, tuple[type, str]] = {
    "bell": (Bell, "_sleep"),
    "consumer": (Sweeper, "step"),
    "fetcher": (Fetcher, "_turn"),
}
# The round that fails: the thread is at work by then.
_FAILS = 3


def provoke(thread: str) -> None:
    kind, name = ROUNDS[thread]
    todo, rounds = getattr(kind, name), 0

    def fail(*args: Any, **kwargs: Any) -> Any:
        nonlocal rounds
        rounds += 1
        if rounds == _FAILS:
            raise ValueError(f"provoked in the {thread}")
        return todo(*args, **kwargs)

    setattr(kind, name, fail)


if "PROVOKE" in os.environ:
    provoke(os.environ["PROVOKE"])
