"""The tasks: a plain one, one for plain text, and three that never run beside themselves."""

from __future__ import annotations

import time

from celery.utils.log import get_task_logger

from celery_mysqllock import single_instance
from example_proj.app import app

logger = get_task_logger(__name__)


@app.task
def add(a: int, b: int) -> int:
    """Add two numbers."""
    logger.info("%d + %d = %d", a, b, a + b)
    return a + b


@app.task
def print_line(text: str) -> None:
    """Log the text of a job that is no JSON; see ``text_task`` in the settings."""
    logger.info("A line of text: %s", text)


@app.task
@single_instance(on_conflict="skip")
def refresh_rates() -> None:
    """Refresh shared data; a call during a run has nothing to do."""
    logger.info("Refreshing the rates.")
    time.sleep(1)  # stands for the work


@app.task
@single_instance(unique_on=["account"], on_conflict="retry")
def rebuild_report(account: int, *, full: bool = False) -> None:
    """Rebuild one account's report; other accounts' reports are rebuilt at the same time."""
    logger.info("Rebuilding the %s report of account %d.", "full" if full else "short", account)
    time.sleep(1)  # stands for the work


@app.task(acks_late=True)
@single_instance(wait=60)
def book(order: int) -> None:
    """Book an order, one at a time; acknowledged late, so it outlives the death of a worker."""
    logger.info("Booking order %d.", order)
    time.sleep(0.2)  # stands for the work
