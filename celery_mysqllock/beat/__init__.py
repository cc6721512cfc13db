"""A beat scheduler for any number of hosts, one of which sends at a time: ``-S mysqllock``."""

from __future__ import annotations

from celery_mysqllock.beat.scheduler import Scheduler

__all__ = ["Scheduler"]
