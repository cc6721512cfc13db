"""Celery's own commands say in one line what is wrong with the configuration, as ours do.

Celery shows an error that nobody awaited with its traceback: 60 lines of a worker, 1,000 of a beat.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import TYPE_CHECKING

from kombu.exceptions import OperationalError

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

# What somebody has to correct; no traceback says more of it than its message.
_TO_BE_CORRECTED = (
    *(SettingsError, LoginRefused, UnknownDatabase, MissingPrivilege),
    *(TableMissing, TableMismatch, UnsuitableServer, MultiPrimaryServer),
)
# The loggers that tell why a worker and a beat end, and in which words.
_LOGGERS = {"celery.worker": "Unrecoverable error: %s", "celery.beat": "beat raised exception: %s"}
_DEBUG = re.compile(r"(^|\s)(-l|--loglevel)[\s=]*debug\b", re.IGNORECASE)

_said: list[BaseException] = []


def speak_plainly() -> None:
    """Have the commands of this process say our errors in one line; exit codes stay as they are.

    With ``--loglevel=DEBUG`` the traceback comes with it. Others' errors stay as they are.
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
        elif ours not in _said and sys.__stderr__ is not None:
            # not sys.stderr, which a beat sends to its log
            sys.__stderr__.write(f"Error: {visible(str(ours))}\n")

    sys.excepthook = hook


def _shorten(record: logging.LogRecord) -> bool:
    """Leave the traceback out of the line that tells why a worker or a beat ends."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, _TO_BE_CORRECTED) and not _is_debug():
        record.msg, record.args = _LOGGERS[record.name], (visible(str(error)),)
        record.exc_info = None
        _said.append(error)
    return True


def _ours(error: BaseException) -> MySQLLockError | None:
    """The error, or what it says in kombu's words, where it is one of ours."""
    if isinstance(error, OperationalError) and error.__cause__ is not None:
        error = error.__cause__
    return error if isinstance(error, MySQLLockError) else None


def _is_debug() -> bool:
    return _DEBUG.search(" ".join(sys.argv)) is not None
