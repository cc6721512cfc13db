"""The reason of a dead job, cut to its column."""

from __future__ import annotations

from celery_mysqllock.mysql import storable

#: Characters of a reason: what its column holds, less what four bytes a character could take.
REASON_LIMIT = 16_000
# Bytes of its column, TEXT.
_COLUMN = 65_535


def fitting(reason: str) -> str:
    """The reason, cut to the size of its column, without what a server cannot store."""
    cut = reason if len(reason) <= REASON_LIMIT else f"{reason[: REASON_LIMIT - 3]}..."
    return storable(cut).encode()[:_COLUMN].decode("utf-8", "ignore")
