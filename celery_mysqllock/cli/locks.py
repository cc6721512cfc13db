"""``locks``: which locks are held and waited for, and by whom; and their release by force."""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.table import Table
from rich.text import Text

from celery_mysqllock.cli.console import stdout
from celery_mysqllock.exceptions import SettingsError
from celery_mysqllock.locks.listing import list_locks, read_lock
from celery_mysqllock.locks.mysql_lock import end_holder
from celery_mysqllock.mysql import Address, Session, is_in_namespace, lock_name, used_by

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_mysqllock.cli.place import Place
    from celery_mysqllock.locks.listing import HeldLock

_FREE = 1  # exit code of ``show`` when nobody holds the lock
_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
_IN_PART = (
    "This server does not list its locks to this user, so those of other programs, and those that "
    "were taken less than half a second ago, are missing. 'mysqllock doctor' says how to change it."
)


@click.group(invoke_without_command=True)
@_AS_JSON
@click.pass_context
def locks(context: click.Context, *, as_json: bool) -> None:
    """Show the locks of the namespace that are held: by whom, since when, and who waits.

    What is known of a holder comes from the holder itself, about half a second after it has the
    lock, and from the server, as far as this user may see it.
    """
    if context.invoked_subcommand is not None:
        return
    with _at(context.obj) as (session, namespace):
        listing = list_locks(session, namespace)
    if as_json:
        found = [_as_json(lock) for lock in listing.locks]
        report = {"namespace": namespace, "is_whole": listing.is_whole, "locks": found}
        click.echo(json.dumps(report))
        return
    if listing.locks:
        stdout().print(_table(listing.locks))
    else:
        click.echo(f"Nobody holds a lock of the namespace {namespace!r}.")
    if not listing.is_whole:
        click.echo(_IN_PART, err=True)


@locks.command()
@click.argument("name")
@_AS_JSON
@click.pass_obj
def show(place: Place, *, name: str, as_json: bool) -> None:
    """Show who holds a lock, and who waits for it.

    NAME is as in 'mysqllock run', or as 'mysqllock locks' prints it. The exit code is 1 when
    nobody holds it.
    """
    with _at(place) as (session, namespace):
        full = _full_name(namespace, name)
        lock = read_lock(session, full)
    if as_json:
        click.echo(json.dumps(None if lock is None else _as_json(lock)))
    elif lock is None:
        click.echo(f"Nobody holds {full}.")
    else:
        click.echo(f"{full}\n  held by {lock.holder}")
        for waiter in lock.waiters:
            click.echo(f"  waiting: {waiter}")
    if lock is None:
        click.get_current_context().exit(_FREE)


@locks.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def reset(place: Place, *, name: str, yes: bool) -> None:
    """Free a lock by force: KILL the session that holds it.

    Its holder is told that the lock is lost, and the next in line gets it.
    """
    with _at(place) as (session, namespace):
        full = _full_name(namespace, name)
        lock = read_lock(session, full)
        if lock is None:
            click.echo(f"Nobody holds {full}.")
            return
        if not yes:
            click.confirm(f"{full} is held by {lock.holder}. End that session?", abort=True)
        if used_by(session, full) == lock.holder.connection_id:
            end_holder(session, full)
            click.echo(f"{full} was taken away from session {lock.holder.connection_id}.")
        else:
            click.echo(f"Session {lock.holder.connection_id} does not hold {full} any more.")


@contextmanager
def _at(place: Place) -> Iterator[tuple[Session, str]]:
    """A session with the server of the locks, and their namespace."""
    settings = place.locks
    if (settings.url or "").startswith("memory://"):
        raise SettingsError("These locks are in the memory of a process (memory://): none to see.")
    address = Address.parse(settings.url or "")
    with Session(address) as session:
        yield session, settings.namespace or address.database


def _full_name(namespace: str, name: str) -> str:
    return name if is_in_namespace(name, namespace) else lock_name(namespace, name)


def _table(found: tuple[HeldLock, ...]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("lock", overflow="fold")
    table.add_column("held by", overflow="fold")
    table.add_column("session", justify="right")
    table.add_column("for", justify="right")
    table.add_column("note", overflow="fold")
    table.add_column("waiting", justify="right")
    for lock in found:
        holder = lock.holder
        who = (
            str(holder.process) if holder.process else f"{holder.user or '?'}@{holder.host or '?'}"
        )
        age, waiting = _age(holder.since), str(len(lock.waiters) or "")
        cells = (holder.name, who, str(holder.connection_id), age, holder.note or "", waiting)
        # Text: a name with brackets in it is no markup
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _age(since: datetime | None) -> str:
    if since is None:
        return ""
    seconds = max(0, round((datetime.now(timezone.utc) - since).total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _as_json(lock: HeldLock) -> dict[str, Any]:
    holder, process = lock.holder, lock.holder.process
    return {
        "name": holder.name,
        "connection_id": holder.connection_id,
        "user": holder.user,
        "host": holder.host,
        "pid": process.pid if process else None,
        "program": process.program if process else None,
        "hostname": process.hostname if process else None,
        "note": holder.note,
        "since": holder.since.isoformat() if holder.since else None,
        "waiting": [vars(waiter) for waiter in lock.waiters],
    }
