"""The job table: its shape, its statements, and the consumers that claim from it. No Celery."""

from __future__ import annotations

from celery_mysqllock.jobs.consumer import Consumer
from celery_mysqllock.jobs.migrate import Migrations
from celery_mysqllock.jobs.table import ClaimedJob, JobTable

__all__ = ["ClaimedJob", "Consumer", "JobTable", "Migrations"]
