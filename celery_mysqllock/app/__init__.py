"""The one reader of an application's configuration: broker, job table, locks and their settings."""

from __future__ import annotations

from celery_mysqllock.app.configuration import (
    Broker,
    broker_of,
    lock_address,
    lock_settings,
    locks_in_memory,
    read_broker_settings,
    read_prefixed_settings,
)
from celery_mysqllock.app.connection import address_of, check_urls, read_urls_at_once

read_urls_at_once()

__all__ = [
    "Broker",
    "address_of",
    "broker_of",
    "check_urls",
    "lock_address",
    "lock_settings",
    "locks_in_memory",
    "read_broker_settings",
    "read_prefixed_settings",
]
