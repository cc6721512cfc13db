"""What ``mysqllock doctor`` looks at, on one server, and what it finds."""

from __future__ import annotations

from celery_mysqllock.cli.checks.catalogue import examine
from celery_mysqllock.cli.checks.check import Finding, Level, Target
from celery_mysqllock.cli.checks.roles import ROLES

__all__ = ["ROLES", "Finding", "Level", "Target", "examine"]
