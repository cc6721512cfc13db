"""Commands report our errors in one line: those of ``mysqllock``, and Celery's own.

Celery shows an unexpected error with its traceback: 60 lines for a worker, 1,000 for a beat.
"""

from __future__ import annotations

import errno
import logging
import re
import sys
from typing import TYPE_CHECKING, Any

import click
from kombu.exceptions import OperationalError

from celery_mysqllock.cli.process import leave_stdout
from celery_mysqllock.cli.visible import visible
from celery_mysqllock.exceptions import (
    LoginRefused,
    MissingPrivilege,
    MultiPrimaryServer,
    MySQLLockError,
    SettingsError,
    TableMismatch,
    TableMissing,
    UnknownDatabase,
    UnsuitableServer,
)

if TYPE_CHECKING:
    from types import TracebackType

# Errors of configuration; a traceback would say no more than the message.
_MISCONFIGURED = (
    *(SettingsError, LoginRefused, UnknownDatabase, MissingPrivilege),
    *(TableMissing, TableMismatch, UnsuitableServer, MultiPrimaryServer),
)
# The loggers that report why a worker and a beat end, and their words.
_LOGGERS = {"celery.worker": "Unrecoverable error: %s", "celery.beat": "beat raised exception: %s"}
_DEBUG = re.compile(r"(^|\s)(-l|--loglevel)[\s=]*debug\b", re.IGNORECASE)

_reported: list[BaseException] = []


class ErrorGroup(click.Group):
    """A group whose commands report an error in one sentence, without a traceback."""

    def invoke(self, context: click.Context) -> Any:  # noqa: ANN401 - click's
        """Run the command."""
        try:
            return super().invoke(context)
        except MySQLLockError as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # click ends quietly, since the reader has closed the pipe
            leave_stdout()
            raise click.ClickException(f"{error.strerror or error}.") from error


def speak_plainly() -> None:
    """Make Celery's commands report our errors in one line; exit codes stay the same.

    ``--loglevel=DEBUG`` shows the traceback too. Other errors are left alone.
    """
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_shorten)
    inner = sys.excepthook

    def hook(
        kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        ours = _ours(error)
        if ours is None or _is_debug():
            inner(kind, error, traceback)
        elif ours not in _reported and sys.__stderr__ is not None:
            # not sys.stderr, which a beat redirects to its log
            sys.__stderr__.write(f"Error: {visible(str(ours))}\n")

    sys.excepthook = hook


def _shorten(record: logging.LogRecord) -> bool:
    """Remove the traceback from the line that reports why a worker or a beat ends."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, _MISCONFIGURED) and not _is_debug():
        record.msg, record.args = _LOGGERS[record.name], (visible(str(error)),)
        record.exc_info = None
        _reported.append(error)
    return True


def _ours(error: BaseException) -> MySQLLockError | None:
    """The error, or its cause if kombu has wrapped it, if it is one of ours."""
    if isinstance(error, OperationalError) and error.__cause__ is not None:
        error = error.__cause__
    return error if isinstance(error, MySQLLockError) else None


def _is_debug() -> bool:
    return _DEBUG.search(" ".join(sys.argv)) is not None
