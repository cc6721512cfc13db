"""Our broker in a whole setup: a worker that takes jobs of Celery's and of plain SQL."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pytest_celery.vendors.worker.tasks import add, identity

from tests.waiting import eventually

if TYPE_CHECKING:
    from pytest_celery import CeleryTestSetup


def test_a_task_runs_and_its_result_comes_back(celery_setup: CeleryTestSetup) -> None:
    result = add.s(2, 3).apply_async(queue=celery_setup.worker.worker_queue)
    assert result.get(timeout=60, interval=0.05) == 5


def test_a_row_inserted_by_plain_sql_runs_and_goes(celery_setup: CeleryTestSetup) -> None:
    # the worker is ready, so the table is there
    message = json.dumps({"task": identity.name, "args": ["written by plain SQL"]})
    with celery_setup.broker.container.client as session:
        session.execute("INSERT INTO jobs (message) VALUES (%s)", (message,))
        celery_setup.worker.assert_log_exists("'written by plain SQL'")
        eventually(lambda: session.value("SELECT COUNT(*) FROM jobs") == 0, what="an empty table")
