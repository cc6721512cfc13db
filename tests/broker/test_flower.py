"""Flower, as its package comes, on the job table."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from tests.broker.app import late, note
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.broker.worker import Worker

StartWorker = "Callable[..., Worker]"
pytest.importorskip("flower", reason="Flower is not installed: pip install --group flower")
pytestmark = pytest.mark.usefixtures("producer_url")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def flower(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Asks Flower's HTTP interface; None while it does not answer."""
    port = free_port()
    program = [sys.executable, "-m", "celery", "-A", "tests.broker.app", "flower"]
    with (
        (tmp_path / "flower.log").open("wb") as log,
        subprocess.Popen(
            [*program, "--address=127.0.0.1", f"--port={port}"],
            env={**environment, "FLOWER_UNAUTHENTICATED_API": "true"},
            stdout=log,
            stderr=log,
        ) as process,
    ):

        def ask(path: str, method: str = "GET") -> Any:
            request = urllib.request.Request(f"http://127.0.0.1:{port}/api/{path}", method=method)
            try:
                with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310 - ours
                    return json.load(answer)
            except (urllib.error.URLError, ConnectionError):
                return None

        yield ask
        process.terminate()


def test_flower_sees_workers_and_tasks_and_revokes(
    start_worker: Callable[..., Worker], flower: Callable[..., Any]
) -> None:
    worker = start_worker("-E")
    eventually(lambda: "worker-0@test" in (flower("workers?refresh=1") or {}))
    done, running = note.delay("watched"), late.delay("long", 600.0)

    def states() -> dict[str, str]:
        return {uuid: task["state"] for uuid, task in (flower("tasks") or {}).items()}

    eventually(lambda: states().get(done.id) == "SUCCESS")
    eventually(lambda: states().get(running.id) == "STARTED")
    assert flower(f"task/revoke/{running.id}?terminate=true", "POST") is not None
    worker.await_log("Terminating")
    eventually(lambda: states().get(running.id) == "REVOKED")
