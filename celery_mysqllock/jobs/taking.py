"""The ways to take the first jobs in line: each server has one that works, or is the fastest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celery_mysqllock.mysql import Server, Session, Statements

    Rows = list[tuple[Any, ...]]

# Two steps pay for so many jobs and more. For fewer, the third round trip costs more than it saves.
_MANY = 4


class SkipLocked:
    """Lock the first in line that nobody else is locking, and mark them.

    Attributes:
        is_locking: Whether what is found is locked, so that the transaction goes on.
    """

    is_locking = True

    def find(self) -> str:
        """The name of the statement that finds jobs, in a transaction that has begun."""
        return "lock_oldest"

    def take(self, session: Session, sql: Statements, found: Rows, values: dict[str, Any]) -> Rows:
        """Make what was found the owner's, as far as it can be, and commit.

        Args:
            session: The session of the transaction.
            sql: The statements of the job table.
            found: The rows of the statement that ``find`` names.
            values: Its values; ``ids`` becomes those of the taken jobs.

        Returns:
            A row for each job that is the owner's now.
        """
        values["ids"] = [row[0] for row in found]
        session.script(f"{sql['mark_claimed']}; COMMIT" if found else "COMMIT", values)
        return found


class TwoSteps(SkipLocked):
    """Find the first in line unlocked, and lock them by their ids.

    MariaDB looks up who has changed each row that it locks through an index; by the primary key
    it need not. Where others have locked some of them, it locks as ``SkipLocked`` does.
    """

    def __init__(self) -> None:
        self._pays = False

    def find(self) -> str:
        """As in ``SkipLocked``."""
        return "find_oldest" if self._pays else "lock_oldest"

    def take(self, session: Session, sql: Statements, found: Rows, values: dict[str, Any]) -> Rows:
        """As in ``SkipLocked``."""
        rows = found
        if self._pays and found:
            rows = session.query(sql["lock_found"], {**values, "ids": [row[0] for row in found]})
        others_are_here = len(rows) < len(found)
        if others_are_here:
            rows = session.query(sql["lock_oldest"], values)
        self._pays = len(rows) >= _MANY and not others_are_here
        return super().take(session, sql, rows, values)


class CompareAndSet(SkipLocked):
    """Find the first in line, and change those that are still queued: for old servers."""

    is_locking = False

    def find(self) -> str:
        """As in ``SkipLocked``; nothing is locked, so no transaction is needed."""
        return "find_oldest"

    def take(self, session: Session, sql: Statements, found: Rows, values: dict[str, Any]) -> Rows:
        """As in ``SkipLocked``."""
        if not found:
            return []
        values["ids"] = [row[0] for row in found]
        _, rows = session.script(f"{sql['take_queued']}; {sql['read_taken']}", values)
        taken: Rows = rows
        return taken


def way_to_take(claim_method: str, server: Server) -> SkipLocked:
    """The way for a server.

    Args:
        claim_method: ``skip_locked``, ``two_steps``, ``compare_and_set``; or ``auto`` for the
            fastest that the server can.
        server: The server.
    """
    if claim_method == "auto":
        if not server.has_skip_locked:
            return CompareAndSet()
        return TwoSteps() if server.is_mariadb else SkipLocked()
    ways = {"skip_locked": SkipLocked, "two_steps": TwoSteps, "compare_and_set": CompareAndSet}
    return ways[claim_method]()
