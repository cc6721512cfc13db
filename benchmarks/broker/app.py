"""The app whose workers are measured: a task that notes when it begins."""

from __future__ import annotations

import json
import os
from pathlib import Path

from celery import Celery

import celery_mysqllock  # noqa: F401 - makes mysql:// a broker's URL
from benchmarks.notes import Writer

app = Celery("bench", broker=os.environ.get("BROKER_URL"))
app.conf.update(
    broker_transport_options=json.loads(os.environ.get("BROKER_OPTIONS", "{}")),
    broker_connection_retry_on_startup=True,
    task_ignore_result=True,
    task_acks_late=True,
)
notes = Writer(Path(os.environ.get("NOTES", ".")), os.environ.get("AUTHOR", "worker"))


@app.task
def note(number: int) -> None:
    """Note the moment at which it began."""
    notes.write("ran", number=number)
