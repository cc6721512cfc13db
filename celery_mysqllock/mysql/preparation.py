"""The variables that a session sets, so that no default of a server changes what statements do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from celery_mysqllock.mysql.server import Server

#: Seconds that a statement waits for a row, and for a table that another session alters or locks.
#: Both are shorter than ``Session.read_timeout``, so that the server's error names the cause.
ROW_LOCK_WAIT, TABLE_LOCK_WAIT = 3, 5

# Gap locks of the default REPEATABLE READ would make consumers wait for each other.
_TRANSACTIONS = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE"
_UNLIMITED = 18_446_744_073_709_551_615

# Without these a confirmed job may not be stored, or a statement has another meaning.
_VITAL = {
    "autocommit": "1",
    "time_zone": "'+00:00'",
    # Strict; and nothing of ORACLE, ANSI_QUOTES, NO_BACKSLASH_ESCAPES, PAD_CHAR_TO_FULL_LENGTH ...
    "sql_mode": "'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'",
}
_EVERYWHERE = {
    # 'CHAIN' begins a transaction after each COMMIT, which is never committed.
    "completion_type": "'NO_CHAIN'",
    "sql_safe_updates": "0",
    "sql_auto_is_null": "0",
    "sql_big_selects": "1",
    "sql_select_limit": str(_UNLIMITED),
    "unique_checks": "1",
    "innodb_lock_wait_timeout": str(ROW_LOCK_WAIT),
    "lock_wait_timeout": str(TABLE_LOCK_WAIT),
}


def statements(server: Server) -> tuple[str, list[str]]:
    """Return the SQL that a new session runs.

    Args:
        server: The session's server.

    Returns:
        The statements that every server accepts from every user; and assignments, each of which
        fails on a server that does not know the variable.
    """
    vital = ", ".join(f"{name} = {value}" for name, value in _VITAL.items())
    rest = [f"{name} = {value}" for name, value in (_EVERYWHERE | _own(server)).items()]
    return f"{_TRANSACTIONS}; SET SESSION {vital}", rest


def assignments(server: Server) -> dict[str, str]:
    """Return each variable that a session sets, with its value as an SQL literal."""
    return _VITAL | _EVERYWHERE | _own(server)


def _own(server: Server) -> dict[str, str]:
    # A statement limit of the server or the user would end those in which consumers sleep.
    if not server.is_mariadb:
        # Above the second limit a list of ids becomes a scan of the table, which locks all rows.
        return {"max_execution_time": "0", "range_optimizer_max_mem_size": "0"}
    # ON by default since 11.6: locking reads fail with error 1020 where another session has changed
    # a row since this transaction began, in READ COMMITTED too.
    isolation = (
        {"innodb_snapshot_isolation": "OFF"} if _has_snapshot_isolation(server.version) else {}
    )
    return {"max_statement_time": "0", **isolation}


def _has_snapshot_isolation(version: tuple[int, int, int]) -> bool:
    since = {(10, 6): 18, (10, 11): 8, (11, 0): 6, (11, 1): 5, (11, 2): 4, (11, 4): 2}
    return version >= (11, 4, 2) or version[2] >= since.get(version[:2], version[2] + 1)
