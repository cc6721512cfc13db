"""What is only there to inform people does not decide how a task ends."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from billiard.exceptions import SoftTimeLimitExceeded

from celery_mysqllock.exceptions import LockLost

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def only_informing() -> Iterator[None]:
    """Let no error of the block's out: of a log's handler or filter, say, that is broken.

    What interrupts the task, and may come just here, is none of the block's.
    """
    try:
        yield
    except (SoftTimeLimitExceeded, LockLost):
        raise
    except Exception:  # noqa: BLE001, S110 - where should it be told, if not in the log
        pass
