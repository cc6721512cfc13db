"""The app of the programs that these tests start, each of which logs in as the user of one role.

The environment gives ``BROKER_URL``; ``LOCK_URL``; ``SCHEDULE``, a JSON object with the seconds of
each entry; and ``LEDGER``, a file to which the tasks append what they do.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from celery import Celery

import celery_mysqllock  # noqa: F401 - makes mysql:// known
from celery_mysqllock import single_instance

app = Celery("privileged", broker=os.environ.get("BROKER_URL"))
app.conf.update(
    mysqllock_url=os.environ.get("LOCK_URL"),
    mysqllock_namespace="privileged",
    broker_transport_options={"polling_interval": 0.2, "recovery_grace": 1.0},
    task_ignore_result=True,
    task_default_queue=os.environ.get("QUEUE", "celery"),
)
app.conf.beat_schedule = {
    name: {"task": "note", "schedule": seconds, "args": [name]}
    for name, seconds in json.loads(os.environ.get("SCHEDULE", "{}")).items()
}


def write(entry: str) -> None:
    with Path(os.environ["LEDGER"]).open("a") as ledger:
        ledger.write(f"{entry}\n")


@app.task(name="note")
def note(entry: str) -> None:
    write(entry)


@app.task(name="once", acks_late=True)
@single_instance(unique="until_done", unique_on=["entry"], limit=None)
def once(entry: str) -> None:
    write(entry)


@app.task(name="queue_once")
@single_instance(unique="queued", unique_on=["entry"], limit=None)
def queue_once(entry: str) -> None:
    write(entry)


@app.task(name="in_order")
@single_instance(unique_on=["key"], on_conflict="queue", retry_countdown=1)
def in_order(key: str, entry: str) -> None:
    write(f"{key} {entry}")


@app.task(name="alone")
@single_instance(unique_on=["key"])
def alone(key: str) -> None:
    write(f"alone {key}")


@app.task(name="hang", bind=True, acks_late=True)
def hang(self: Any) -> None:
    """End only when it is delivered a second time."""
    if self.request.delivery_info["redelivered"]:
        write("hung twice")
        return
    write("hangs")
    time.sleep(600)
