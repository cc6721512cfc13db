"""Lines of ordered jobs: whose turn it is, asked in the transaction that makes the place free.

A job that has an ``order_key`` is stored as waiting, which nobody claims. It is queued when fewer
jobs of its key than its ``order_limit`` are active: queued, claimed, or put aside after they were
claimed. So the next of a key can be claimed when the one before it has ended, and not before.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from celery_mysqllock.mysql import Statements

# As many as the migration has made rows.
_SLOTS = 1000


class OrderKey(NamedTuple):
    """What makes a job wait for others.

    Attributes:
        text: What the jobs have in common of which only some run at a time; ASCII, 255 characters.
        limit: So many at a time.
    """

    text: str
    limit: int = 1


def slots(keys: Iterable[str]) -> list[int]:
    """The rows to lock for these keys, in everybody's order."""
    # spaces at the end make no difference where the server compares keys
    return sorted({zlib.crc32(key.rstrip(" ").encode()) % _SLOTS for key in keys})


def next_in_lines(sql: Statements, keys: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """SQL for id and queue of the next job of each key, where its limit allows one; its values.

    To be sent in a transaction of READ COMMITTED that holds the keys' rows of ``lock_lines``.

    Args:
        sql: The statements of the job table.
        keys: Order keys, each once.
    """
    heads = " UNION ALL ".join(
        sql["head_of_line"].replace("%(order_key)s", f"%(key{number})s")
        for number in range(len(keys))
    )
    values: dict[str, Any] = {f"key{number}": key for number, key in enumerate(keys)}
    return sql["next_in_lines"].replace("%(heads)s", heads), {**values, "keys": list(keys)}
