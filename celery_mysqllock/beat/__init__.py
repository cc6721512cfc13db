"""A beat scheduler of which any number may run and one at a time sends: ``-S mysqllock``."""

from __future__ import annotations

from celery_mysqllock.beat.scheduler import Scheduler

__all__ = ["Scheduler"]
