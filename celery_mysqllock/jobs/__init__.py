"""The job table: its shape, its statements, and the consumers that claim from it. No Celery."""

from __future__ import annotations

from celery_mysqllock.jobs.bell import Bell
from celery_mysqllock.jobs.consumer import Consumer
from celery_mysqllock.jobs.ephemeral import Binding, EphemeralQueues
from celery_mysqllock.jobs.job import ClaimedJob, Placement, Settlement
from celery_mysqllock.jobs.migrate import Migrations
from celery_mysqllock.jobs.stream import Stream
from celery_mysqllock.jobs.sweeper import Sweeper
from celery_mysqllock.jobs.table import JobTable
from celery_mysqllock.jobs.unique import UNIQUE_KINDS, UNTIL_DONE, UniqueKey, unique_key

__all__ = [
    "UNIQUE_KINDS",
    "UNTIL_DONE",
    "Bell",
    "Binding",
    "ClaimedJob",
    "Consumer",
    "EphemeralQueues",
    "JobTable",
    "Migrations",
    "Placement",
    "Settlement",
    "Stream",
    "Sweeper",
    "UniqueKey",
    "unique_key",
]
