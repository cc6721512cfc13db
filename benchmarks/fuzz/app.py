"""The application of the workers that the rows are thrown at."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from celery import Celery
from celery.signals import task_internal_error, task_prerun, task_revoked

import celery_mysqllock  # noqa: F401 - makes mysql:// known
from benchmarks.notes import Writer

app = Celery("fuzz", broker=os.environ.get("BROKER_URL", "mysql://nobody@localhost/nothing"))
app.conf.update(
    broker_transport_options=json.loads(os.environ.get("BROKER_OPTIONS", "{}")),
    # so that what Celery does with results in a worker's main process is tried too
    result_backend="cache+memory://",
    result_expires=10,
    worker_hijack_root_logger=False,
)
# ruff: noqa: D103, ANN401 - the names say it all, and requests are Celery's
writer = Writer(Path(os.environ.get("NOTES", ".")), os.environ.get("AUTHOR", "nobody"))


@task_prerun.connect
def note_run(task_id: object, **_: object) -> None:
    writer.write("ran", id=str(task_id))


@task_internal_error.connect
def note_error(task_id: object, **_: object) -> None:
    writer.write("failed", id=str(task_id))


@task_revoked.connect
def note_revoked(request: Any, **_: object) -> None:
    writer.write("revoked", id=str(request.id))


@app.task(name="ok")
def ok(*args: object, **kwargs: object) -> int:
    return len(args) + len(kwargs)


@app.task(name="late", acks_late=True)
def late(*args: object, **kwargs: object) -> object:
    return args, kwargs


@app.task(name="two")
def two(a: object, b: object = None) -> object:
    return a, b


@app.task(name="boom", acks_late=True, acks_on_failure_or_timeout=False)
def boom(*args: object, **_: object) -> None:
    raise ValueError(args)
