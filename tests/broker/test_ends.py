"""What a start that fails and an end at any moment leave behind: nothing."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from kombu import Connection, Consumer, Queue

from celery_mysqllock.broker import Transport
from celery_mysqllock.jobs.claims import Claims
from celery_mysqllock.mysql import Address
from tests.broker.app import late
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery_mysqllock.mysql import Session
    from tests.broker.worker import Worker

USER = "few_sessions"


@pytest.fixture
def limited(session: Session) -> Iterator[Callable[[int], str]]:
    """A user who may have so many sessions at a time."""
    database = session.address.database
    session.execute(f"DROP USER IF EXISTS {USER}")
    session.execute(f"CREATE USER {USER} IDENTIFIED BY 'x'")
    session.execute(f"GRANT ALL ON `{database}`.* TO {USER}")

    def allow(most: int) -> str:
        session.execute(f"ALTER USER {USER} WITH MAX_USER_CONNECTIONS {most}")
        place = Address.parse(session.address.url())
        return f"mysql://{USER}:x@{place.host}:{place.port}/{database}"

    yield allow
    session.execute(f"DROP USER IF EXISTS {USER}")


def sessions_of(session: Session) -> int:
    count = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = %s"
    return int(session.value(count, (USER,)))


def threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith("mysqllock")]


@pytest.mark.parametrize("most", range(1, 7))
def test_a_start_that_fails_half_way_leaves_nothing_behind(
    session: Session, limited: Callable[[int], str], most: int
) -> None:
    before = threads()
    url = limited(most)
    for _ in range(2):
        connection = Connection(url)
        with contextlib.suppress(*Transport.connection_errors):
            Consumer(connection, [Queue("q")], on_message=lambda _: None).consume()
        connection.release()
        eventually(lambda: sessions_of(session) == 0)
        eventually(lambda: threads() == before)
        assert session.query("SELECT identity FROM jobs_consumers") == []


def test_a_worker_that_could_not_start_has_no_more_sessions_than_another(
    session: Session,
    limited: Callable[[int], str],
    launch_worker: Callable[..., Worker],
    start_worker: Callable[..., Worker],
) -> None:
    unlimited = start_worker("--pool", "solo", BROKER_URL=limited(0))
    usual = eventually(lambda: sessions_of(session))
    unlimited.stop()
    eventually(lambda: sessions_of(session) == 0)
    worker = launch_worker("--pool", "solo", BROKER_URL=limited(usual - 2))
    worker.await_log("Connection to broker lost")
    limited(0)
    worker.await_ready()
    eventually(lambda: sessions_of(session) == usual)
    assert session.value("SELECT COUNT(*) FROM jobs_consumers") == 1


def test_a_connection_with_a_full_window_is_closed_without_ado(
    connect: Callable[..., Connection], session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(Claims, "keep_alive", lambda *_: asked.append(1))
    connection = connect()
    producer = connection.Producer()
    for number in range(3):
        producer.publish(number, routing_key="q")
    channel = connection.channel()
    channel.basic_qos(0, 1, apply_global=False)
    Consumer(channel, [Queue("q")], on_message=lambda _: None).consume()
    connection.drain_events(timeout=20)
    eventually(lambda: session.value("SELECT COUNT(*) FROM jobs WHERE job_status = 1") == 1)
    cpu = time.process_time()
    connection.release()
    assert time.process_time() - cpu < 1
    assert len(asked) < 3
    assert threads() == []
    assert session.value("SELECT COUNT(*) FROM jobs WHERE job_status = 0") == 3


@pytest.mark.usefixtures("producer_url")
def test_a_worker_that_ends_tasks_for_a_lost_connection_comes_back_at_once(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    worker = start_worker(
        CELERY_SETTINGS='{"worker_cancel_long_running_tasks_on_connection_loss": true}'
    )
    for number in range(8):
        late.delay(number, 1.0)
    eventually(lambda: session.query("SELECT 1 FROM ledger"))
    own = session.connection_id
    for (one,) in session.query(
        "SELECT ID FROM information_schema.PROCESSLIST WHERE DB = DATABASE() AND ID <> %s", (own,)
    ):
        with contextlib.suppress(Exception):
            session.execute("KILL %s", (one,))
    worker.await_log("Connection to broker lost")
    eventually(lambda: session.query("SELECT id FROM jobs") == [], within=60)
