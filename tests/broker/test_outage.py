"""The server is away when a worker starts, or goes away in the middle of its start."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.mysql import Session
from devserver import DevServer
from tests.broker.app import note
from tests.broker.commands import replies
from tests.broker.worker import POOLS
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from devserver import GivenServer
    from tests.broker.worker import Worker

StartWorker = "Callable[..., Worker]"
pytestmark = pytest.mark.usefixtures("producer_url")


@contextmanager
def away(server: DevServer | GivenServer) -> Iterator[None]:
    """Have the server killed meanwhile."""
    if not isinstance(server, DevServer):
        pytest.skip("the server of MYSQLLOCK_URL is not ours to restart")
    server.kill()
    try:
        yield
    finally:
        server.start()


def await_work(session: Session) -> None:
    """Return when the worker answers and has run a task."""
    with Session(session.address) as fresh:
        url = session.address.url()
        assert replies(url, "inspect", "ping") == {"worker-0@test": {"ok": "pong"}}
        note.delay("after")
        eventually(lambda: fresh.query("SELECT entry FROM ledger") == [("after",)])


@pytest.mark.parametrize("pool", POOLS)
def test_a_worker_that_starts_without_a_server_waits_for_it(
    session: Session,
    server: DevServer | GivenServer,
    launch_worker: Callable[..., Worker],
    pool: str,
) -> None:
    with away(server):
        worker = launch_worker("--pool", pool)
        worker.await_log("Trying again in")
    worker.await_ready()
    await_work(session)


@pytest.mark.parametrize("pool", POOLS)
def test_a_server_that_dies_while_a_worker_asks_for_others_does_not_end_it(
    session: Session,
    server: DevServer | GivenServer,
    launch_worker: Callable[..., Worker],
    pool: str,
) -> None:
    worker = launch_worker("--pool", pool)
    worker.await_log("mingle: searching for neighbors")
    with away(server):
        # Celery may say that it tries again, or kombu tries again and says nothing
        assert not worker.has_ended
    worker.await_ready()
    await_work(session)
