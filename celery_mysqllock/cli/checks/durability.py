"""What survives a crash, whether the server takes writes, and what a failover would lose."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from celery_mysqllock.cli.checks.check import STATEMENTS, ok, problem, warning
from celery_mysqllock.exceptions import DatabaseError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_mysqllock.cli.checks.check import Finding, Target

_READ_ONLY = (
    *("read_only", "super_read_only", "innodb_read_only"),
    *("transaction_read_only", "tx_read_only"),
)
_REPLICA_STATUS_SINCE = (8, 0, 22)


def check_durability(target: Target) -> Iterator[Finding]:
    """Whether commits are on disk."""
    names = ("innodb_flush_log_at_trx_commit", "log_bin", "sync_binlog")
    yield from list(_weak(target)) or [ok("durability", target.shown(*names))]


def _weak(target: Target) -> Iterator[Finding]:
    if target.variables.get("innodb_flush_log_at_trx_commit") != "1":
        yield warning(
            "durability",
            f"{target.shown('innodb_flush_log_at_trx_commit')}: a crash loses jobs of about the "
            "last second, although delay() had returned.",
            "Set it to 1 where jobs must not be lost.",
        )
    if target.is_on("log_bin") and target.variables.get("sync_binlog") != "1":
        yield warning(
            "durability",
            f"{target.shown('sync_binlog')}: after a crash of the machine, replicas may lack jobs "
            "that this server has, or have jobs that it has lost.",
            "Set it to 1.",
        )
    if target.variables.get("innodb_doublewrite", "ON").upper() in ("OFF", "0"):
        yield warning(
            "durability",
            "innodb_doublewrite=OFF: a crash may tear a page of the table.",
            "Leave it on, unless the file system writes pages atomically.",
        )


def check_isolation(target: Target) -> Iterator[Finding]:
    """Whether sessions get the isolation level that they set, and may write with it."""
    levels = {level for _, level in target.session.query(STATEMENTS["isolation"])}
    if levels != {"READ-COMMITTED"}:
        yield problem(
            "isolation",
            f"A session that has asked for READ COMMITTED has {', '.join(sorted(levels))}: "
            "consumers would wait for each other.",
            "Look for a proxy, or an init_connect, that sets it.",
        )
    elif target.is_on("log_bin") and target.variables.get("binlog_format") == "STATEMENT":
        yield problem(
            "isolation",
            "binlog_format=STATEMENT refuses every write in READ COMMITTED (error 1665).",
            "Set binlog_format to ROW, or MIXED.",
        )
    else:
        yield ok("isolation", "READ COMMITTED, as every session sets it")


def check_writes(target: Target) -> Iterator[Finding]:
    """Whether the server takes writes."""
    on = [name for name in _READ_ONLY if target.is_on(name)]
    if not on:
        yield ok("writes", "taken: the server is not read-only")
        return
    text = f"The server is read-only ({target.shown(*on)}): a replica, or fenced off."
    advice = "Point the URL at the primary."
    if target.table is not None:
        yield problem("writes", f"{text} No job can be stored or claimed.", advice)
    else:
        yield warning("writes", f"{text} A lock here does not exclude one on the primary.", advice)


def check_replication(target: Target) -> Iterator[Finding]:
    """Whether the server is a replica."""
    server = target.session.server
    word = "SLAVE" if server.is_mariadb or server.version < _REPLICA_STATUS_SINCE else "REPLICA"
    with suppress(DatabaseError):  # needs a privilege, and is worth no warning
        if target.session.query(f"SHOW {word} STATUS"):
            yield warning(
                "replication",
                "The server replicates from another one. Workers that use the other one do not see "
                "the locks and jobs of this one.",
                "Make sure that all programs use the same primary.",
            )
        else:
            yield ok("replication", "follows no other server. Locks do not survive a failover.")
