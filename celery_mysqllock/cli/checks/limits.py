"""Limits that end a session or a statement, or refuse one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery_mysqllock.cli.checks.finding import ok, problem, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_mysqllock.cli.checks.examined import Examined
    from celery_mysqllock.cli.checks.finding import Finding

_NETWORK = ("net_read_timeout", "net_write_timeout")
_SHORT = 10  # seconds
_PACKET = 4 * 2**20  # bytes
_WORKER = 6  # sessions of a worker, without those of its tasks' locks
_FULL = 0.8


def check_timeouts(examined: Examined) -> Iterator[Finding]:
    """Time-outs that a session does not set for itself."""
    low = [name for name in _NETWORK if (examined.number(name) or _SHORT) < _SHORT]
    if low:
        text = f"{examined.shown(*low)}: a slow network breaks large messages."
        yield warning("time-outs", text, "30 and 60 are the defaults.")
    else:
        yield ok("time-outs", f"{examined.shown(*_NETWORK)}, in seconds")


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
