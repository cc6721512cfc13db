"""``run``: flock(1) across hosts; runs a command while a named lock is held."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from celery_mysqllock.cli.deployment import URL_VARIABLE
from celery_mysqllock.cli.guard import Command, GuardedCommand, say
from celery_mysqllock.cli.parameters import Seconds
from celery_mysqllock.exceptions import (
    DatabaseError,
    LockLost,
    LockTimeout,
    MySQLLockError,
)
from celery_mysqllock.locks import MySQLLock

if TYPE_CHECKING:
    from celery_mysqllock.cli.deployment import Deployment
    from celery_mysqllock.settings import LockSettings

_UNAVAILABLE, _LOST = 69, 75  # exit codes: EX_UNAVAILABLE and EX_TEMPFAIL of sysexits.h
_GRACE = 5.0


class BehindDashes(click.Command):
    """A click command whose last argument, ``command``, is everything after ``--``."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Parse the options before ``--``; the rest belongs to the command."""
        dashes = args.index("--") if "--" in args else len(args)
        rest = super().parse_args(context, args[:dashes])
        context.params["command"] = tuple(args[dashes + 1 :])
        if not context.params["command"]:
            raise click.UsageError("Put '--' and the command after the name.", context)
        return rest

    def collect_usage_pieces(self, context: click.Context) -> list[str]:
        """The arguments in the first line of the help."""
        return [*super().collect_usage_pieces(context), "-- COMMAND [ARGUMENT]..."]


@click.command(cls=BehindDashes)
@click.argument("name")
@click.option("-w", "--wait", type=Seconds(), help="Seconds to wait; for ever by default.")
@click.option("-n", "--nonblock", is_flag=True, help="Do not wait.")
@click.option(
    *("-E", "--conflict-exit-code"),
    type=click.IntRange(0, 255),
    default=1,
    show_default=True,
    help="Exit code if the lock is held elsewhere for the whole wait.",
)
@click.option(
    "--grace",
    type=Seconds(),
    default=_GRACE,
    show_default=True,
    help="Seconds from SIGTERM to SIGKILL when the lock is lost.",
)
@click.option("-q", "--quiet", is_flag=True, help="Report no conflict.")
@click.pass_obj
def run(  # noqa: PLR0913 - its options
    deployment: Deployment,
    *,
    name: str,
    wait: float | None,
    nonblock: bool,
    conflict_exit_code: int,
    grace: float,
    quiet: bool,
    command: tuple[str, ...],
) -> None:
    """Run a command while the named lock is held, as flock(1) does, across hosts.

    The lock is <namespace>:NAME, as for MySQLLock(NAME); a task's is task:<key>.

    The exit code is the command's, 128 plus the signal's number if a signal ended it, 127 if it is
    not found and 126 if it cannot run. It is 1 (or -E) if the lock is held elsewhere, 69 if the
    server cannot be asked for it, and 75 if it was lost while the command ran; the command is then
    ended with SIGTERM, and SIGKILL after the grace. Signals are passed on to the command. Its
    environment does not contain MYSQLLOCK_URL, and so not the password.
    """
    if nonblock and wait is not None:
        raise click.UsageError("-n and -w exclude each other.")
    if not sys.platform.startswith("linux"):
        raise click.UsageError("run works on Linux only.")
    # losses are reported here and need not be logged
    logging.getLogger("celery_mysqllock").addHandler(logging.NullHandler())
    try:
        code = _run(deployment.locks, name, 0 if nonblock else wait, command, grace)
    except LockTimeout as conflict:
        if not quiet:
            say(str(conflict))
        code = conflict_exit_code
    except LockLost:
        code = _LOST  # it was reported when it happened
    except MySQLLockError as error:
        say(str(error))
        code = _UNAVAILABLE
    click.get_current_context().exit(code)


def _run(
    settings: LockSettings, name: str, wait: float | None, words: tuple[str, ...], grace: float
) -> int:
    """Run the command under the lock; its exit code.

    Raises:
        LockTimeout: The lock is held elsewhere.
        LockLost: It was lost, and the command ended.
        MySQLLockError: The server cannot be asked for the lock.
    """
    os.environ.pop(URL_VARIABLE, None)  # from C's environment too
    guarded = GuardedCommand(Command(words, grace, min(grace, settings.session_timeout / 3)))

    def end_command(_: MySQLLock) -> None:
        # first, because this process ends soon; without waiting
        say(f"the lock {lock.name!r} is lost, and the command is ended.", patience=0)
        guarded.end_command()

    lock = MySQLLock(
        name,
        url=settings.url or "",
        namespace=settings.namespace,
        session_timeout=settings.session_timeout,
        allow_multi_primary=settings.allow_multi_primary,
        note=Path(words[0]).name,
        on_lost=end_command,
    )
    try:
        session = _take(lock, wait)
    except BaseException:
        guarded.dismiss()
        raise
    code = guarded.run(session)
    lock.release()
    return code


def _take(lock: MySQLLock, wait: float | None) -> int:
    """Take the lock; a copy of the socket of the session that holds it."""
    if not lock.acquire(wait):
        raise LockTimeout(f"the lock {lock.name!r} is held by {_holder_of(lock)}")
    try:
        return os.dup(lock.fileno())
    except OSError as error:  # closed at this very moment
        raise LockLost from error


def _holder_of(lock: MySQLLock) -> str:
    with suppress(DatabaseError):
        return str(lock.holder() or "a session that has just released it")
    return "another session"
