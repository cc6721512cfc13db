"""A worker that is killed, and started again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pytest_celery.vendors.worker.tasks import add, sleep

from tests.waiting import eventually

if TYPE_CHECKING:
    from pytest_celery import CeleryTestSetup


@pytest.fixture
def app_settings(app_settings: dict[str, Any]) -> dict[str, Any]:
    """Acknowledged late: the job that runs when its worker is killed is not lost."""
    return {**app_settings, "task_acks_late": True}


def test_a_killed_worker_goes_on_with_the_queue_after_its_restart(
    celery_setup: CeleryTestSetup,
) -> None:
    worker = celery_setup.worker
    running = sleep.s(2).apply_async(queue=worker.worker_queue)
    waiting = [add.s(number, 1).apply_async(queue=worker.worker_queue) for number in range(20)]
    eventually(lambda: running.id in worker.logs(), what="the first job's start")
    worker.kill()
    assert worker.container.status == "exited"
    assert not running.ready()

    worker.restart()

    assert [result.get(timeout=60, interval=0.05) for result in waiting] == list(range(1, 21))
    assert running.get(timeout=60, interval=0.05) is True
    with celery_setup.broker.container.client as session:
        eventually(lambda: session.value("SELECT COUNT(*) FROM jobs") == 0, what="an empty table")
