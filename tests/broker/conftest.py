"""A kombu connection to an empty job table, and workers on it."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from kombu import Connection

import celery_mysqllock  # noqa: F401 - makes mysql:// known
from celery_mysqllock.jobs import bell
from tests.broker.app import app
from tests.broker.callers import DRIVERS, Plain
from tests.broker.listener import Listener
from tests.broker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from celery_mysqllock.mysql import Session


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
def launch_worker(session: Session, tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    """Launches real ``celery worker`` processes on the table."""
    workers: list[Worker] = []

    def launch(*options: str, **environment: str) -> Worker:
        log = tmp_path / f"worker-{len(workers)}.log"
        workers.append(Worker(session.address.url(), log, *options, **environment))
        return workers[-1]

    yield launch
    for worker in workers:
        worker.kill()


@pytest.fixture
def start_worker(launch_worker: Callable[..., Worker]) -> Callable[..., Worker]:
    """Launches workers and waits until they are ready."""

    def start(*options: str, **environment: str) -> Worker:
        worker = launch_worker(*options, **environment)
        worker.await_ready()
        return worker

    return start


@pytest.fixture
def producer_url(session: Session) -> Iterator[None]:
    """The test process publishes to the table of this test."""
    app.conf.broker_url = session.address.url()
    session.execute("CREATE TABLE ledger (entry VARCHAR(200), pid INT)")
    yield
    app.pool.force_close_all()
    app.set_current()
    app._pool = None  # noqa: SLF001 - as Celery does after a fork
    app.amqp._producer_pool = None  # noqa: SLF001


@pytest.fixture
def environment(session: Session) -> dict[str, str]:
    """The environment of a program that works with the tests' app on this test's table."""
    return {**os.environ, "BROKER_URL": session.address.url()}


@pytest.fixture
def listener(session: Session, monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    """An idle consumer, asleep until somebody rings."""
    monkeypatch.setattr(bell, "_SLEEP", 600)
    listener = Listener(session.address)
    yield listener
    listener.close()


@pytest.fixture(params=DRIVERS)
def plain(session: Session, request: pytest.FixtureRequest) -> Iterator[Plain]:
    """A connection of each driver."""
    caller = Plain(session.address.url(), request.param)
    yield caller
    with suppress(Exception):  # a test may have closed it
        caller.connection.close()
