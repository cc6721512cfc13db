"""The app whose workers share the table with the programs from before."""

from __future__ import annotations

import json
import os
from pathlib import Path

from celery import Celery

import celery_mysqllock  # noqa: F401 - makes mysql:// a broker's URL
from benchmarks.notes import Writer

app = Celery("adoption", broker=os.environ.get("BROKER_URL"))
app.conf.update(
    broker_transport_options={
        "text_task": "benchmarks.adoption.app.take",
        **json.loads(os.environ.get("BROKER_OPTIONS", "{}")),
    },
    broker_connection_retry_on_startup=True,
    task_ignore_result=True,
)
notes = Writer(Path(os.environ.get("NOTES", ".")), os.environ.get("AUTHOR", "nobody"))


@app.task
def take(text: str) -> None:
    """Note that a worker has a message."""
    notes.write("taken", message=text)
