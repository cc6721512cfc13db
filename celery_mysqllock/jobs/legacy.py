"""The named lock round which older programs take jobs from the same table.

Such a program takes the lock, SELECTs the oldest job, UPDATEs its ``job_status`` by its id, and
gives the lock back. Between its two statements a claim of ours would take the same job; so ours
take the lock as well.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from celery_mysqllock.mysql import get_lock, release_lock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_mysqllock.mysql import Session

logger = logging.getLogger(__name__)

# Seconds; as long as the older programs themselves wait.
_WAIT = 10


@contextmanager
def among_older_programs(session: Session, lock: str | None) -> Iterator[bool]:
    """Keep older programs from taking jobs during the block.

    Args:
        session: The session that claims.
        lock: The exact name of their lock, None where there are no such programs.

    Yields:
        Whether the block may claim: not when one of them has held the lock for ten seconds.

    Raises:
        ConnectionLost: The session has ended, and the lock with it.
    """
    if lock is None:
        yield True
        return
    if not get_lock(session, lock, _WAIT):
        logger.warning(
            "No job was claimed: the lock %r was held for %d s (legacy_lock).", lock, _WAIT
        )
        yield False
        return
    try:
        yield True
    finally:
        if session.is_open:
            release_lock(session, lock)
