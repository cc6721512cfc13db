"""The app that two releases run on one table. It notes which of them ran what."""

from __future__ import annotations

import os
import time
from typing import Any

from celery import Celery

import celery_mysqllock
from celery_mysqllock import single_instance

RELEASE = os.environ["RELEASE"]

app = Celery("releases", broker=os.environ["BROKER_URL"])
app.conf.update(
    broker_connection_retry_on_startup=True,
    broker_transport_options={"polling_interval": 0.2, "recovery_grace": 1.0},
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
)
assert os.environ["ROOT"] in str(celery_mysqllock.__file__)


def note(entry: str) -> None:
    with open(os.environ["LEDGER"], "a") as ledger:  # noqa: PTH123 - one write, which appends
        ledger.write(f"{RELEASE} {entry}\n")


@app.task(name="plain")
def plain(entry: str) -> None:
    time.sleep(0.05)
    note(entry)


@app.task(name="ordered", acks_late=True)
@single_instance(unique_on=["key"], on_conflict="queue")
def ordered(key: str, number: int) -> None:
    time.sleep(0.02)
    note(f"ordered {key} {number}")


@app.task(name="once", acks_late=True)
@single_instance(unique="until_done", unique_on=["key"], limit=None)
def once(key: str, sender: str) -> None:
    note(f"once {key} {sender}")


@app.task(name="queued_once", acks_late=True)
@single_instance(unique="queued", unique_on=["key"], limit=None)
def queued_once(key: str, sender: str) -> None:
    note(f"queued_once {key} {sender}")


@app.task(name="stuck", bind=True, acks_late=True)
def stuck(self: Any) -> None:
    """Stay for ever, until the job is delivered a second time."""
    note("begun")
    while not self.request.delivery_info["redelivered"]:
        time.sleep(0.1)
    note("done")


def send_all(batch: str, sender: str) -> None:
    """Send jobs of each kind."""
    for number in range(20):
        plain.delay(f"plain {batch} {sender} {number}")
        ordered.delay(f"{batch} {sender}", number)
    for number in range(5):
        plain.apply_async((f"eta {batch} {sender} {number}",), countdown=1)
        plain.apply_async((f"urgent {batch} {sender} {number}",), priority=9)
    for number in range(3):
        once.delay(f"{batch} {sender} {number}", sender)
        queued_once.delay(f"{batch} {sender} {number}", sender)
