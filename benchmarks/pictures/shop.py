"""The app of the busy fleet: a shop whose payment provider is down."""

from __future__ import annotations

import os
import time

from celery import Celery

from celery_mysqllock import single_instance

app = Celery("shop", broker=os.environ.get("SHOP_URL", "mysql://nobody@127.0.0.1/shop"))
app.conf.update(
    task_ignore_result=True,
    # so that jobs are in the table while they run
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    task_routes={
        "shop.emails.*": {"queue": "emails"},
        "shop.images.*": {"queue": "images"},
        "shop.newsletter.*": {"queue": "newsletter"},
        "shop.reports.*": {"queue": "reports"},
    },
)


class ProviderIsDown(Exception):
    """The payment provider answers 503."""


@app.task(name="shop.emails.send")
def send(address: str) -> None:  # noqa: ARG001 - says whose it is
    """Half a blink."""
    time.sleep(0.02)


@app.task(name="shop.images.resize")
def resize(image: str) -> None:  # noqa: ARG001 - says whose it is
    """A moment."""
    time.sleep(0.3)


@app.task(name="shop.newsletter.issue")
def issue(number: int) -> None:
    """Never runs: its queue is paused."""


@app.task(name="shop.orders.charge", acks_on_failure_or_timeout=False)
def charge(order: int) -> None:
    """Fails, and is kept as dead."""
    raise ProviderIsDown(f"order {order}: 503 Service Unavailable")


@app.task(name="shop.reports.build")
@single_instance(unique_on=["account"], wait=600)
def build(account: int, part: str) -> None:  # noqa: ARG001 - the lock is by them
    """Takes long, and once at a time for each account."""
    time.sleep(40)
