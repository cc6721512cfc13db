"""The checks of ``mysqllock doctor`` on one server, and their findings."""

from __future__ import annotations

from celery_mysqllock.cli.checks.catalogue import examine
from celery_mysqllock.cli.checks.check import Finding, Level, Target
from celery_mysqllock.cli.checks.roles import ROLES

__all__ = ["ROLES", "Finding", "Level", "Target", "examine"]
