"""Limits that end a session or a statement, or refuse one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery_mysqllock.cli.checks.finding import ok, problem, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_mysqllock.cli.checks.examined import Examined
    from celery_mysqllock.cli.checks.finding import Finding

_IDLE, _NETWORK, _ROW_LOCK, _STATEMENT = 60, 10, 120, 120  # seconds
_PACKET = 4 * 2**20  # bytes
_WORKER = 6  # sessions of a worker, without those of its tasks' locks
_FULL = 0.8
_TIMEOUTS = (
    *("wait_timeout", "interactive_timeout", "net_read_timeout", "net_write_timeout"),
    *("lock_wait_timeout", "innodb_lock_wait_timeout"),
)


def check_timeouts(examined: Examined) -> Iterator[Finding]:
    """Time-outs of the server. What holds a lock or consumes has a wait_timeout of its own."""
    bad = list(_bad_timeouts(examined))
    yield from bad or [ok("time-outs", f"{examined.shown(*_TIMEOUTS)}, in seconds")]


def _bad_timeouts(examined: Examined) -> Iterator[Finding]:
    if (examined.number("wait_timeout") or _IDLE) < _IDLE:
        yield warning(
            "time-outs",
            f"{examined.shown('wait_timeout')}: the connection of a producer that sends less often "
            "is ended each time, and it has to log in again.",
            "28800 is the default.",
        )
    for name in ("net_read_timeout", "net_write_timeout"):
        if (examined.number(name) or _NETWORK) < _NETWORK:
            text = f"{examined.shown(name)}: a slow network breaks large messages."
            yield warning("time-outs", text, "30 and 60 are the defaults.")
    if (examined.number("innodb_lock_wait_timeout") or 0) > _ROW_LOCK:
        yield warning(
            "time-outs",
            f"{examined.shown('innodb_lock_wait_timeout')}: whoever meets a row that somebody has "
            "locked and forgotten waits for so long.",
            "50 is the default.",
        )


def check_statement_limit(examined: Examined) -> Iterator[Finding]:
    """Limits on the time that a statement may take: consumers sleep within statements."""
    limits = {
        "max_execution_time": (examined.number("max_execution_time") or 0) / 1000,
        "max_statement_time": examined.number("max_statement_time") or 0,
    }
    low = [name for name, seconds in limits.items() if 0 < seconds < _STATEMENT]
    if low:
        yield warning(
            "statements",
            f"{examined.shown(*low)} ends the statements in which idle consumers sleep and wait. "
            "Locks of tasks are safe: their sessions lift it.",
            "Set it to 0, or for this user alone where the server can.",
        )
    else:
        yield ok("statements", "no limit on their time that matters here")


def check_connections(examined: Examined) -> Iterator[Finding]:
    """Whether there is room for the fleet."""
    most = int(examined.number("max_connections") or 0)
    now = int(examined.status.get("Threads_connected", 0))
    peak = int(examined.status.get("Max_used_connections", now))
    refused = int(examined.status.get("Connection_errors_max_connections", 0))
    own = int(examined.session.value("SELECT @@SESSION.max_user_connections") or 0)
    room = f"max_connections={most}: {now} are open, {peak} at most were since the server's start"
    need = f"A worker has {_WORKER}, and one more for each lock that a task holds."
    advice = "Raise max_connections, or run fewer workers with more processes each."
    if now >= most * _FULL:
        yield problem("connections", f"{room}. {need}", advice)
    elif refused or peak >= most * _FULL:
        yield warning("connections", f"{room}, and {refused} were refused. {need}", advice)
    else:
        yield ok("connections", f"{room}. {need}")
    if own:
        yield warning(
            "connections",
            f"This user may have {own} at a time (max_user_connections): that is for "
            f"{own // _WORKER} workers that hold no lock.",
            "Raise it if the fleet is larger.",
        )


def check_packet(examined: Examined) -> Iterator[Finding]:
    """How large a message may be."""
    size = examined.number("max_allowed_packet") or 0
    text = f"max_allowed_packet={size / 2**20:g} MiB: a message above it is refused"
    if size < _PACKET:
        yield warning("packet", f"{text}.", "Raise it, or keep large arguments elsewhere.")
    else:
        yield ok("packet", text)
