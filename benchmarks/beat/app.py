"""The application of the beats: one periodic task."""

from __future__ import annotations

import os

from celery import Celery

import celery_mysqllock  # noqa: F401 - makes mysql:// a broker URL

app = Celery("beats", broker=os.environ.get("BROKER_URL"))
app.conf.result_expires = None
app.conf.beat_schedule = {
    "tick": {"task": "tick", "schedule": float(os.environ.get("INTERVAL", "1"))}
}
