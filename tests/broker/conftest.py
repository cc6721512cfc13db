"""A kombu connection to an empty job table, and workers on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from kombu import Connection

import celery_mysqllock
from celery_mysqllock.jobs import Migrations
from celery_mysqllock.mysql import Address, Session
from tests.broker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def session(url: str) -> Iterator[Session]:
    """A session beside the broker's, on a migrated table."""
    with Session(Address.parse(url)) as session:
        Migrations(session).apply()
        yield session


@pytest.fixture
def connect(session: Session) -> Iterator[Callable[..., Connection]]:
    """Opens kombu connections with the given transport options."""
    connections = []

    def open_one(**options: Any) -> Connection:
        connection = Connection(session.address.url(), transport_options=options)
        connections.append(connection)
        connection.connect()
        return connection

    yield open_one
    for connection in connections:
        connection.release()


@pytest.fixture
def start_worker(session: Session, tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    """Starts real ``celery worker`` processes on the table."""
    workers: list[Worker] = []

    def start(*options: str, **environment: str) -> Worker:
        log = tmp_path / f"worker-{len(workers)}.log"
        worker = Worker(session.address.url(), log, *options, **environment)
        workers.append(worker)
        worker.await_ready()
        return worker

    yield start
    for worker in workers:
        worker.kill()
