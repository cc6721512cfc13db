"""Keeps errors of logs and signals, which only inform people, from deciding how a task ends."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from billiard.exceptions import SoftTimeLimitExceeded

from celery_mysqllock.exceptions import LockLost

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def only_informing() -> Iterator[None]:
    """Suppress the block's errors, for example of a log handler or filter that is broken.

    An exception that interrupts the task is not the block's, and goes on.
    """
    try:
        yield
    except (SoftTimeLimitExceeded, LockLost):
        raise
    except Exception:  # noqa: BLE001, S110 - the log itself may be what is broken
        pass
