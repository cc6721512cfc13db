"""An application whose broker and settings are what the environment says."""

from __future__ import annotations

import json
import os

from celery import Celery

import celery_mysqllock  # noqa: F401 - makes mysql:// known

app = Celery("misconfigured", broker=os.environ["BROKER_URL"])
app.conf.update(json.loads(os.environ.get("CONFIG", "{}")))


@app.task
def add(x: int, y: int) -> int:
    return x + y
