"""``locks``: who holds and awaits which locks; frees a lock by force."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from celery_mysqllock.app import lock_address
from celery_mysqllock.cli.tables import echo, json_option, print_json, print_table, records, since
from celery_mysqllock.cli.visible import visible
from celery_mysqllock.exceptions import SettingsError
from celery_mysqllock.jobs import LockNames
from celery_mysqllock.locks.listing import list_locks, read_lock
from celery_mysqllock.locks.mysql_lock import end_holder
from celery_mysqllock.mysql import (
    Session,
    is_in_namespace,
    is_own_lock,
    lock_name,
    used_by,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_mysqllock.cli.deployment import Deployment
    from celery_mysqllock.locks.listing import HeldLock

_FREE = 1  # exit code of ``show`` if the lock is free
_IN_PART = "Only locks that are waited for are shown: 'mysqllock doctor' says why."


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def locks(context: click.Context, *, as_json: bool) -> None:
    """Show the locks of the namespace that are held: by whom, since when, and who waits.

    Of the broker's own locks it shows only that of the active beat; for the others see 'mysqllock
    consumers'.

    How much is shown depends on the server and on what this user may read there: 'mysqllock
    doctor' says what shows more.
    """
    if context.invoked_subcommand is not None:
        return
    deployment: Deployment = context.obj
    with _at(deployment) as (session, namespace):
        beat = LockNames.of(session, deployment.settings.table).beat
        listing = list_locks(session, namespace, also={beat})
    if as_json:
        found = [_as_json(lock) for lock in listing.locks]
        report = {"namespace": namespace, "is_whole": listing.is_whole, "locks": found}
        print_json(report)
        return
    if listing.locks:
        _print(listing.locks)
    else:
        also = "" if listing.is_whole else " that is waited for"
        echo(f"Nobody holds a lock of the namespace {namespace!r}{also}.")
    if not listing.is_whole:
        click.echo(_IN_PART, err=True)


@locks.command()
@click.argument("name")
@json_option
@click.pass_obj
def show(deployment: Deployment, *, name: str, as_json: bool) -> None:
    """Show who holds a lock, and who waits for it.

    NAME is as in 'mysqllock run', or as 'mysqllock locks' prints it. The exit code is 1 if the
    lock is free.
    """
    with _at(deployment) as (session, namespace):
        full = _full_name(namespace, name)
        lock = read_lock(session, full)
    if as_json:
        print_json(None if lock is None else _as_json(lock))
    elif lock is None:
        echo(f"Nobody holds {full}.")
    else:
        echo(f"{full}\n  held by {lock.holder}")
        for waiter in lock.waiters:
            echo(f"  waiting: {waiter}")
    if lock is None:
        click.get_current_context().exit(_FREE)


@locks.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def reset(deployment: Deployment, *, name: str, yes: bool) -> None:
    """Free a lock by force: KILL the session that holds it.

    The holder notices that it has lost the lock, and the next waiter gets it.
    """
    with _at(deployment) as (session, namespace):
        full = _full_name(namespace, name)
        lock = read_lock(session, full)
        if lock is None:
            echo(f"Nobody holds {full}.")
            return
        if not yes:
            click.confirm(
                visible(f"{full} is held by {lock.holder}. End that session?"), abort=True
            )
        if used_by(session, full) == lock.holder.connection_id:
            end_holder(session, full)
            echo(f"{full} was taken away from session {lock.holder.connection_id}.")
        else:
            echo(f"Session {lock.holder.connection_id} does not hold {full} any more.")


@contextmanager
def _at(deployment: Deployment) -> Iterator[tuple[Session, str]]:
    """A session with the locks' server, and the locks' namespace."""
    settings = deployment.locks
    address = lock_address(settings)
    if address is None:
        raise SettingsError("These locks are in the memory of a process (memory://): none to see.")
    with Session(address) as session:
        yield session, settings.namespace or session.database


def _full_name(namespace: str, name: str) -> str:
    is_full = is_own_lock(name) or is_in_namespace(name, namespace)
    return name if is_full else lock_name(namespace, name)


def _print(found: tuple[HeldLock, ...]) -> None:
    print_table(
        ("lock", "held by", ">session", "for", ">waiting", "note"),
        [
            (
                lock.holder.name,
                lock.holder.process or f"{lock.holder.user or '?'}@{lock.holder.host or '?'}",
                lock.holder.connection_id,
                since(lock.holder.since),
                len(lock.waiters),
                lock.holder.note,
            )
            for lock in found
        ],
    )


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
        "since": holder.since,
        "waiting": records(lock.waiters),
    }
