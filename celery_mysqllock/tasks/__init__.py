"""Tasks that run one at a time: the decorator, the base class, and the signals about locks."""

from __future__ import annotations

from celery_mysqllock import redaction
from celery_mysqllock.signals import lock_acquired, lock_conflict, lock_lost, lock_released
from celery_mysqllock.tasks import sending
from celery_mysqllock.tasks.base import SingleInstanceTask
from celery_mysqllock.tasks.decorator import single_instance
from celery_mysqllock.tasks.locked_call import current_lock
from celery_mysqllock.tasks.spec import lock_for

__all__ = [
    "SingleInstanceTask",
    "current_lock",
    "lock_acquired",
    "lock_conflict",
    "lock_for",
    "lock_lost",
    "lock_released",
    "redaction",
    "sending",
    "single_instance",
]
