"""The application of the callers and the worker."""

from __future__ import annotations

import os

from celery import Celery

from celery_mysqllock import single_instance
from celery_mysqllock.mysql import Address, Session

URL = os.environ["UNIQUE_URL"]

app = Celery("unique", broker=URL)
app.conf.update(task_ignore_result=True)


@app.task(name="run", bind=True, acks_late=True)
@single_instance(unique="until_done", unique_on=["number"], limit=None)
def run(self, number):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201 - Celery's
    """Note that this task has run."""
    with Session(Address.parse(URL)) as session:
        session.execute("INSERT INTO runs VALUES (%s, %s)", (self.request.id, number))
