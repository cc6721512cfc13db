"""Results that come back through the broker: the ``rpc://`` result backend."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_mysqllock.mysql import Session
    from tests.broker.worker import Worker

StartWorker = "Callable[..., Worker]"
pytestmark = pytest.mark.usefixtures("producer_url")

CLIENT = """
from tests.broker.app import add
from celery import group
print(add.delay(2, 3).get(timeout=30))
print(sum(group(add.s(n, n) for n in range(10))().get(timeout=30)))
"""


def test_a_result_comes_back_to_the_client_that_waits(
    session: Session, start_worker: Callable[..., Worker], environment: dict[str, str]
) -> None:
    start_worker(RESULT_BACKEND="rpc://")
    client = subprocess.run(
        [sys.executable, "-c", CLIENT],
        env={**environment, "RESULT_BACKEND": "rpc://"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=120,
    )
    assert client.stdout.split() == ["5", "90"]
    assert session.query("SELECT id FROM jobs") == []
