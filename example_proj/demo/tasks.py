"""The app of the demo's workers: the example's app with two tasks that write to the ledger."""

from __future__ import annotations

import time
from functools import cache
from typing import TYPE_CHECKING

from celery_mysqllock import single_instance
from example_proj.app import app
from example_proj.demo.ledger import Ledger

if TYPE_CHECKING:
    from celery import Task


@app.task(bind=True)
def record(self: Task, scene: str, job: int, seconds: float) -> None:
    """Write one run of so many seconds into the ledger."""
    with _ledger().run(scene, job, _worker(self)):
        time.sleep(seconds)


@app.task(bind=True, acks_late=True)
@single_instance(wait=60)
def exclusive(self: Task, scene: str, job: int, seconds: float) -> None:
    """Write one run of so many seconds into the ledger; never two at a time."""
    with _ledger().run(scene, job, _worker(self)):
        time.sleep(seconds)


def _worker(task: Task) -> str:
    name: str = task.request.hostname.partition("@")[0]
    return name


@cache
def _ledger() -> Ledger:
    # one for each process of the pool, first asked for after the fork
    return Ledger(app.conf.broker_url)
