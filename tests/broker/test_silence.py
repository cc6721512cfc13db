"""A network that goes quiet, without a word to either end: the wait is short, nothing is lost."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from celery.worker import state
from kombu import Connection
from kombu.exceptions import OperationalError

from celery_mysqllock.broker import worker as broker_worker
from celery_mysqllock.exceptions import ConnectionLost, MySQLLockError
from celery_mysqllock.mysql import Address
from celery_mysqllock.worker.node import WorkerNode
from devserver.network import Network
from tests.broker.app import note
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery_mysqllock.mysql import Session
    from tests.broker.worker import Worker

LaunchWorker = "Callable[..., Worker]"


@pytest.fixture
def network(session: Session) -> Iterator[Network]:
    with Network(session.address.url()) as network:
        yield network


def rest(connection: Connection) -> None:
    """Let a minute pass in which the connection is not used."""
    connection.transport.sessions.main._heard_at -= 60  # noqa: SLF001 - nobody wants to wait for it


@pytest.mark.usefixtures("producer_url")
@pytest.mark.parametrize("pool", ["prefork", "gevent"])
def test_an_idle_worker_hears_of_jobs_again_though_nobody_told_it_of_the_loss(
    session: Session, launch_worker: Callable[..., Worker], network: Network, pool: str
) -> None:
    worker = launch_worker("--pool", pool, BROKER_URL=network.url)
    worker.await_ready()
    network.forget()
    note.delay("one")
    eventually(lambda: session.query("SELECT entry FROM ledger") == [("one",)], 90, "the job")
    assert not worker.has_ended


def test_a_producer_that_rested_sends_once_and_notices_nothing(
    session: Session, network: Network
) -> None:
    with Connection(network.url) as connection:
        producer = connection.Producer()
        producer.publish("first", routing_key="q")
        network.forget()
        rest(connection)
        producer.publish("second", routing_key="q")
        assert session.value("SELECT COUNT(*) FROM jobs") == 2


def test_a_producer_at_work_gets_an_error_that_says_so(
    session: Session, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Connection(network.url) as connection:
        producer = connection.Producer()
        producer.publish("first", routing_key="q")
        # the patience of a statement, which nobody wants to wait for
        main = connection.transport.sessions.main
        monkeypatch.setattr(main._connection, "_read_timeout", 0.5)  # noqa: SLF001
        network.forget()
        with pytest.raises(ConnectionLost):
            producer.publish("second", routing_key="q")
        assert session.value("SELECT COUNT(*) FROM jobs") == 1


def test_a_server_that_is_frozen_and_greets_nobody_costs_the_connect_timeout(url: str) -> None:
    with Network(url) as network:
        network.cut()
        address = Address.parse(f"{network.url}?connect_timeout=1")
        with Connection(address.url()) as connection, pytest.raises(OperationalError):
            connection.ensure_connection(max_retries=1, interval_start=0)


@pytest.mark.usefixtures("session")
def test_closing_a_connection_that_nobody_answers_ends(network: Network) -> None:
    connection = Connection(network.url)
    channel = connection.channel()
    channel.basic_consume("q", no_ack=False, callback=lambda _: None, consumer_tag="tag")
    network.cut()
    connection.close()
    assert not connection.connected


@pytest.mark.usefixtures("session")
@pytest.mark.parametrize("pool", ["prefork", "gevent"])
def test_a_worker_that_nobody_answers_ends_when_it_is_told_to(
    launch_worker: Callable[..., Worker], network: Network, pool: str
) -> None:
    worker = launch_worker("--pool", pool, BROKER_URL=network.url)
    worker.await_ready()
    network.cut()
    # from here on it tries to connect
    worker.await_log("session was lost", 60)
    assert worker.stop() == 0


def test_no_thread_of_a_worker_that_ends_tries_to_connect_for_ever(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[BaseException] = []
    with Connection(f"{network.url}?connect_timeout=1") as connection:
        producer = connection.Producer()
        producer.publish("x", routing_key="q")
        network.cut()

        def publish() -> None:
            try:
                # as Celery sends a heartbeat: with no limit of attempts
                producer.publish("x", routing_key="q", retry=True)
            except MySQLLockError as error:
                ended.append(error)

        # as in a worker
        monkeypatch.setattr(broker_worker, "_nodes", [WorkerNode("ending")])
        monkeypatch.setattr(state, "should_stop", 0)
        thread = threading.Thread(target=publish, daemon=True)
        thread.start()
        thread.join(90)
    assert "The worker ends" in str(ended)
