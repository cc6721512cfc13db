"""The app whose workers are killed and measured: the same task in the line of its key, and not."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path

from celery import Celery
from celery.signals import worker_process_init

import celery_mysqllock  # noqa: F401 - makes mysql:// a broker's URL
from benchmarks.notes import Writer
from celery_mysqllock import single_instance

app = Celery("order", broker=os.environ.get("BROKER_URL"))
app.conf.update(
    broker_transport_options=json.loads(os.environ.get("BROKER_OPTIONS", "{}")),
    broker_connection_retry_on_startup=True,
    task_ignore_result=True,
    task_acks_late=True,
)
notes = Writer(Path(os.environ.get("NOTES", ".")), os.environ.get("AUTHOR", "nobody"))


@worker_process_init.connect
def _seed(**_given: object) -> None:
    random.seed()


@app.task
@single_instance(unique_on=["key"], on_conflict="queue")
def queued(key: int, number: int, seconds: float) -> None:
    """Note the run of one job of a key, which takes about so many seconds."""
    _run(key, number, seconds)


@app.task
@single_instance(include_args=True)
def locked(key: int, number: int, seconds: float) -> None:
    """The same under a lock of its own, for which no job waits."""
    _run(key, number, seconds)


@app.task
def plain(key: int, number: int, seconds: float) -> None:
    """The same without a key and without a lock."""
    _run(key, number, seconds)


def _run(key: int, number: int, seconds: float) -> None:
    notes.write("begin", key=key, number=number)
    if seconds:
        time.sleep(random.uniform(0, 2 * seconds))  # noqa: S311 - no secret
    notes.write("end", key=key, number=number)
