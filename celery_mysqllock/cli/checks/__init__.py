"""What ``mysqllock doctor`` looks at, on one server, and what it finds."""

from __future__ import annotations

from celery_mysqllock.cli.checks.examined import Examined
from celery_mysqllock.cli.checks.examining import examine
from celery_mysqllock.cli.checks.finding import Finding, Level
from celery_mysqllock.cli.checks.roles import ROLES

__all__ = ["ROLES", "Examined", "Finding", "Level", "examine"]
