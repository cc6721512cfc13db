"""The app that is under fault: a task that notes its begin and its end."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

from celery import Celery
from celery.signals import worker_process_init

import celery_mysqllock  # noqa: F401 - makes mysql:// a broker's URL
from benchmarks.notes import Writer

if TYPE_CHECKING:
    from celery import Task

app = Celery("faults", broker=os.environ.get("BROKER_URL"))
app.conf.update(
    broker_transport_options=json.loads(os.environ.get("BROKER_OPTIONS", "{}")),
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    task_ignore_result=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
)
notes = Writer(Path(os.environ.get("NOTES", ".")), os.environ.get("AUTHOR", "nobody"))


@worker_process_init.connect
def _seed(**_given: object) -> None:
    random.seed()


@app.task(bind=True)
def record(self: Task, message: str, seconds: float) -> None:
    """Note the run of one message, which takes about so many seconds."""
    redelivered = bool((self.request.delivery_info or {}).get("redelivered"))
    notes.write("begin", message=message, redelivered=redelivered)
    time.sleep(random.uniform(0, 2 * seconds))  # noqa: S311 - no secret
    notes.write("end", message=message)
