"""The kombu transport that makes the job table a Celery broker."""

from __future__ import annotations

from celery_mysqllock.broker import other_brokers
from celery_mysqllock.broker.transport import Transport

__all__ = ["Transport", "other_brokers"]
