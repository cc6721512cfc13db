"""The server's defaults: whether a session gets what it sets, and what other programs meet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery_mysqllock.cli.checks.finding import ok, problem, warning
from celery_mysqllock.mysql import Statements, preparation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_mysqllock.cli.checks.examined import Examined
    from celery_mysqllock.cli.checks.finding import Finding

_statements = Statements("celery_mysqllock.cli.checks", "checks.sql")
_OFF, _ON = ("OFF", "0"), ("ON", "1")


def check_session(examined: Examined) -> Iterator[Finding]:
    """Whether a session of ours has what it has set."""
    wanted = preparation.assignments(examined.session.server)
    found = dict(examined.session.query(_statements["session_variables"], {"names": [*wanted]}))
    other = [
        f"{name}={found[name]} instead of {value}"
        for name, value in wanted.items()
        if name in found and not _is_same(found[name], value)
    ]
    if other:
        yield problem(
            "session",
            f"A session has set its variables, and has {', '.join(other)}.",
            "Look for a proxy between, which keeps SET from the server.",
        )
        return
    kept = [name for name in wanted if not _is_same(examined.variables.get(name, ""), wanted[name])]
    text = "has what it sets for itself"
    yield ok(
        "session", f"{text}, whatever the server has: {examined.shown(*kept)}" if kept else text
    )


def check_defaults(examined: Examined) -> Iterator[Finding]:
    """What programs meet that INSERT jobs and know nothing of this library."""
    found = list(_surprises(examined))
    yield from found or [
        ok("defaults", "hold no surprise for programs that INSERT jobs themselves")
    ]


def _surprises(examined: Examined) -> Iterator[Finding]:
    greeting = examined.variables.get("init_connect", "")
    if examined.variables.get("autocommit") in _OFF or "autocommit" in greeting.lower():
        yield warning(
            "defaults",
            f"{examined.shown('autocommit', 'init_connect')}: what a program INSERTs is no job "
            "before it commits. Sessions of this library commit by themselves.",
            "Have such programs COMMIT, or set autocommit=1 in them.",
        )
    if examined.variables.get("completion_type", "NO_CHAIN") not in ("NO_CHAIN", "0"):
        yield warning(
            "defaults",
            f"{examined.shown('completion_type')}: what a program INSERTs behind its first COMMIT "
            "is no job before it commits again.",
            "Set completion_type to NO_CHAIN.",
        )
    if "STRICT_" not in examined.variables.get("sql_mode", ""):
        yield warning(
            "defaults",
            "sql_mode is not strict: what a program INSERTs and does not fit is cut, without an "
            "error, to what fits.",
            "Add STRICT_TRANS_TABLES to sql_mode.",
        )


def _is_same(found: str, wanted: str) -> bool:
    """Whether the server's spelling of a value means the one that was set."""
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
