"""MySQL and MariaDB: addresses, sessions, named SQL and the server's named locks."""

from __future__ import annotations

from celery_mysqllock.mysql.address import Address
from celery_mysqllock.mysql.driver import VERSION as DRIVER_VERSION
from celery_mysqllock.mysql.driver import Inserted
from celery_mysqllock.mysql.named_lock import (
    NAME_LIMIT,
    OwnLockName,
    free_among,
    get_lock,
    is_in_namespace,
    is_own_lock,
    lock_name,
    own_lock_name,
    release_lock,
    used_by,
    wait_lock_name,
    wake,
)
from celery_mysqllock.mysql.script import Script, ScriptResult
from celery_mysqllock.mysql.server import Server
from celery_mysqllock.mysql.session import Session, open_first
from celery_mysqllock.mysql.statements import Statements, storable
from celery_mysqllock.mysql.tls import Tls

__all__ = [
    "DRIVER_VERSION",
    "NAME_LIMIT",
    "Address",
    "Inserted",
    "OwnLockName",
    "Script",
    "ScriptResult",
    "Server",
    "Session",
    "Statements",
    "Tls",
    "free_among",
    "get_lock",
    "is_in_namespace",
    "is_own_lock",
    "lock_name",
    "open_first",
    "own_lock_name",
    "release_lock",
    "storable",
    "used_by",
    "wait_lock_name",
    "wake",
]
