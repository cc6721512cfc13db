"""The server's variables: limits, what a session gets, and what other programs meet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery_mysqllock.cli.checks.check import STATEMENTS, ok, problem, warning
from celery_mysqllock.mysql import preparation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_mysqllock.cli.checks.check import Finding, Target

_OFF, _ON = ("OFF", "0"), ("ON", "1")
_NETWORK = ("net_read_timeout", "net_write_timeout")
_SHORT = 10  # seconds
_PACKET = 4 * 2**20  # bytes
_WORKER = 6  # sessions of a worker, without those of its tasks' locks
_FULL = 0.8


def check_timeouts(target: Target) -> Iterator[Finding]:
    """Time-outs that our sessions do not set."""
    low = [name for name in _NETWORK if (target.number(name) or _SHORT) < _SHORT]
    if low:
        text = f"{target.shown(*low)}: a slow network breaks large messages."
        yield warning("time-outs", text, "30 and 60 are the defaults.")
    else:
        yield ok("time-outs", f"{target.shown(*_NETWORK)}, in seconds")


def check_connections(target: Target) -> Iterator[Finding]:
    """Whether there are enough connections for the fleet."""
    most = int(target.number("max_connections") or 0)
    now = int(target.status.get("Threads_connected", 0))
    peak = int(target.status.get("Max_used_connections", now))
    refused = int(target.status.get("Connection_errors_max_connections", 0))
    own = int(target.session.value("SELECT @@SESSION.max_user_connections") or 0)
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


def check_packet(target: Target) -> Iterator[Finding]:
    """The size limit of messages."""
    size = target.number("max_allowed_packet") or 0
    text = f"max_allowed_packet={size / 2**20:g} MiB: a message above it is refused"
    if size < _PACKET:
        yield warning("packet", f"{text}.", "Raise it, or keep large arguments elsewhere.")
    else:
        yield ok("packet", text)


def check_session(target: Target) -> Iterator[Finding]:
    """Whether our sessions have the variables that they set."""
    wanted = preparation.assignments(target.session.server)
    found = dict(target.session.query(STATEMENTS["session_variables"], {"names": [*wanted]}))
    other = [
        f"{name}={found[name]} instead of {value}"
        for name, value in wanted.items()
        if name in found and not _is_same(found[name], value)
    ]
    if other:
        yield problem(
            "session",
            f"A session that has set its variables has {', '.join(other)}.",
            "Look for a proxy that does not pass SET on to the server.",
        )
        return
    kept = [name for name in wanted if not _is_same(target.variables.get(name, ""), wanted[name])]
    text = "has what it sets for itself"
    yield ok("session", f"{text}, whatever the server has: {target.shown(*kept)}" if kept else text)


def check_defaults(target: Target) -> Iterator[Finding]:
    """What affects programs that INSERT jobs without this library."""
    found = list(_surprises(target))
    yield from found or [
        ok("defaults", "cause no surprise to programs that INSERT jobs themselves")
    ]


def _surprises(target: Target) -> Iterator[Finding]:
    greeting = target.variables.get("init_connect", "")
    if target.variables.get("autocommit") in _OFF or "autocommit" in greeting.lower():
        yield warning(
            "defaults",
            f"{target.shown('autocommit', 'init_connect')}: what a program INSERTs is no job "
            "until it commits. Sessions of this library use autocommit.",
            "Make such programs COMMIT, or set autocommit=1 in them.",
        )
    if target.variables.get("completion_type", "NO_CHAIN") not in ("NO_CHAIN", "0"):
        yield warning(
            "defaults",
            f"{target.shown('completion_type')}: what a program INSERTs after its first COMMIT "
            "is no job until it commits again.",
            "Set completion_type to NO_CHAIN.",
        )
    if "STRICT_" not in target.variables.get("sql_mode", ""):
        yield warning(
            "defaults",
            "sql_mode is not strict: the server cuts off values that do not fit a column, without "
            "an error.",
            "Add STRICT_TRANS_TABLES to sql_mode.",
        )


def _is_same(found: str, wanted: str) -> bool:
    """Whether the server's spelling of a value means the value that was set."""
    wanted = wanted.strip("'")
    if wanted in _OFF + _ON:
        return found.upper() in (_OFF if wanted in _OFF else _ON) or _number(found) == float(
            wanted == "1"
        )
    if "," in wanted:
        return set(found.split(",")) >= set(wanted.split(","))
    return found == wanted or (_number(wanted) is not None and _number(found) == _number(wanted))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
