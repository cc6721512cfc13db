"""MySQL or MariaDB as Celery's lock and broker.

Importing the package makes ``mysql://`` a broker URL that Celery and kombu understand, and hides
the passwords of URLs wherever Celery shows its settings. kombu has no entry point for transports;
it documents its table of aliases instead.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from kombu.transport import TRANSPORT_ALIASES

from celery_mysqllock.exceptions import (
    LockError,
    LockLost,
    LockNotOwned,
    LockTimeout,
    MySQLLockError,
    OtherInstanceError,
    TransactionError,
)

if TYPE_CHECKING:
    from celery_mysqllock.broker.transaction import transaction
    from celery_mysqllock.locks import MySQLLock
    from celery_mysqllock.tasks import SingleInstanceTask, single_instance

__version__ = "0.1.0"
__all__ = [
    "LockError",
    "LockLost",
    "LockNotOwned",
    "LockTimeout",
    "MySQLLock",
    "MySQLLockError",
    "OtherInstanceError",
    "SingleInstanceTask",
    "TransactionError",
    "single_instance",
    "transaction",
]

# through the room that prepares Celery's worker, in case this process is one
TRANSPORT_ALIASES.setdefault("mysql", "celery_mysqllock.worker:Transport")
if "celery" in sys.modules:
    # a program without Celery, such as pytest with the plugin, does not load it
    import_module("celery_mysqllock.redaction")

# Imported on first use, so that a program that only publishes does not load locks, and vice versa.
_LAZY = {
    "MySQLLock": "celery_mysqllock.locks",
    "SingleInstanceTask": "celery_mysqllock.tasks",
    "single_instance": "celery_mysqllock.tasks",
    "transaction": "celery_mysqllock.broker.transaction",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
