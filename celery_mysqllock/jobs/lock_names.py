"""The names of a job table's own locks, for all that take them or ask who holds them."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from celery_mysqllock.mysql import OwnLockName, own_lock_name

if TYPE_CHECKING:
    from typing import Self

    from celery_mysqllock.mysql import Session

# How many idle consumers of one queue can be rung. One that finds no free bell is woken by the
# sweeper, or by a consumer that could not take all jobs.
SLOTS = 8
#: The parameters for the names of a queue's bells in SQL.
BELL_PARAMETERS = tuple(f"bell{slot}" for slot in range(SLOTS))

_PLAIN = re.compile(r"[a-z0-9_.-]{1,20}")
_IDENTITY = re.compile(r"[0-9a-f]{32}")
_READABLE, _HASH, _WHOLE_HASH = 7, 12, 32


@dataclass(frozen=True)
class LockNames:
    """The names of one job table's locks.

    A name is made of the database and the table as the server spells them: two tables of one
    database never meet, and two spellings of one database never miss each other. It begins with
    ``~``, as no lock of a user does. Each text that a row may have gives a valid name.

    Attributes:
        qualified: Database and table, ``<database>.<table>``.
    """

    qualified: str

    @classmethod
    def of(cls, session: Session, table: str) -> Self:
        """The names for that table of the session's database."""
        known = table.lower() if session.folds_case else table
        return cls(f"{session.database}.{known}")

    def consumer(self, identity: str) -> OwnLockName:
        """The lock that a consumer holds while it lives."""
        # any other text is from a row that another program has written
        known = identity if _IDENTITY.fullmatch(identity) else _hash(identity)[:_WHOLE_HASH]
        return own_lock_name(self._short, "consumer", known)

    @property
    def sweeper(self) -> OwnLockName:
        """The lock of the one consumer that does the housekeeping."""
        return own_lock_name(self._short, "sweeper")

    @property
    def beat(self) -> OwnLockName:
        """The lock of the one beat that is active."""
        return own_lock_name(self._short, "beat")

    @property
    def active_beat(self) -> OwnLockName:
        """The second lock of the active beat, which a program that took the first does not have."""
        return own_lock_name(self._short, "beat", "active")

    @property
    def migrate(self) -> OwnLockName:
        """The lock of the process that migrates the table."""
        return own_lock_name(self._short, "migrate")

    def bells(self, queue: str) -> tuple[OwnLockName, ...]:
        """The bells of the consumers that sleep for a queue."""
        return _bells(self.qualified, queue)

    @property
    def database(self) -> str:
        """The database, as the server spells it."""
        return self.qualified.rpartition(".")[0]

    @property
    def table(self) -> str:
        """The table, as the server spells it."""
        return self.qualified.rpartition(".")[2]

    @property
    def _short(self) -> str:
        return _shortened(self.qualified)


@lru_cache(maxsize=64)
def _shortened(qualified: str) -> str:
    if _PLAIN.fullmatch(qualified):
        return qualified
    readable = re.sub(r"[^a-z0-9_.-]+", "_", qualified.lower())[:_READABLE]
    return f"{readable}~{_hash(qualified)[:_HASH]}"


@lru_cache(maxsize=8192)
def _bells(qualified: str, queue: str) -> tuple[OwnLockName, ...]:
    # for the server, the queues "q" and "q " are one
    digest = _hash(f"{qualified}:{queue.rstrip(' ')}")[:_WHOLE_HASH]
    return tuple(own_lock_name("bell", digest, str(slot)) for slot in range(SLOTS))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
