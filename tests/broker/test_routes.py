"""What is confirmed is stored where a consumer looks, whoever has declared what, and where."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest
from kombu import Connection, Exchange, Queue
from kombu.common import Broadcast
from kombu.exceptions import ChannelError

from celery_mysqllock.broker import topology
from celery_mysqllock.exceptions import (
    DatabaseError,
    ExchangeMismatch,
    SettingsError,
    UnroutableMessage,
)
from celery_mysqllock.jobs import NewJob, Publisher
from celery_mysqllock.mysql import Session
from tests.broker.app import app, note
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

TASK = {"task": "note", "id": "an-id"}


def bind(connection: Connection, kind: str, *keys: str, exchange: str = "media") -> None:
    """Declare queues that are named after their keys, as a worker does."""
    for key in keys:
        Queue(f"q.{key}", Exchange(exchange, kind), key)(connection.default_channel).declare()


def publish(connection: Connection, key: str, exchange: str = "media", **options: Any) -> None:
    """Publish as a process does that declares nothing."""
    with connection.Producer() as producer:
        producer.publish("x", exchange=exchange, routing_key=key, **options)


def queues(session: Session) -> list[str]:
    return [row[0] for row in session.query("SELECT queue FROM jobs ORDER BY queue")]


@pytest.mark.parametrize(
    ("kind", "routed"),
    [
        ("topic", ["q.#", "q.media.*", "q.media.video"]),
        ("direct", ["q.media.video"]),
        ("fanout", ["q.#", "q.audio.*", "q.media.*", "q.media.video"]),
    ],
)
def test_the_type_of_an_exchange_is_known_to_who_has_not_declared_it(
    session: Session, connect: Callable[..., Connection], kind: str, routed: list[str]
) -> None:
    bind(connect(), kind, "media.*", "media.video", "audio.*", "#")
    publish(connect(), "media.video")
    assert queues(session) == routed


@pytest.mark.usefixtures("producer_url")
def test_a_task_sent_through_a_topic_exchange_arrives(
    session: Session, connect: Callable[..., Connection]
) -> None:
    bind(connect(), "topic", "media.#")
    app.send_task("note", exchange="media", routing_key="media.video")
    assert queues(session) == ["q.media.#"]


@pytest.mark.usefixtures("producer_url")
def test_a_task_for_a_broadcast_queue_arrives_in_each_workers_queue(
    session: Session, connect: Callable[..., Connection]
) -> None:
    for _ in range(2):
        Broadcast("news", queue=None)(connect().default_channel).declare()
    for _ in range(3):
        note.apply_async(("heard",), queue=Broadcast("news"))
    assert len(queues(session)) == 6
    assert len(set(queues(session))) == 2


def test_an_exchange_to_which_queues_are_bound_keeps_its_type(
    session: Session, connect: Callable[..., Connection]
) -> None:
    bind(connect(), "topic", "media.#")
    with pytest.raises(ExchangeMismatch, match="'direct' here, and is 'topic'"):
        bind(connect(), "direct", "media.video")
    publish(connect(), "media.video")
    assert queues(session) == ["q.media.#"]


def test_an_exchange_that_nobody_uses_takes_another_type(
    session: Session, connect: Callable[..., Connection]
) -> None:
    Exchange("media", "direct")(connect().default_channel).declare()
    bind(connect(), "topic", "media.#")
    publish(connect(), "media.video")
    Exchange("media", "topic")(connect().default_channel).delete()
    bind(connect(), "direct", "media.video")
    publish(connect(), "media.video")
    assert queues(session) == ["q.media.#", "q.media.video"]


def test_an_exchange_is_declared_passively_when_somebody_has_declared_it(
    connect: Callable[..., Connection],
) -> None:
    media = Exchange("media", "topic", passive=True)
    with pytest.raises(ChannelError, match="NOT_FOUND"):
        media(connect().default_channel).declare()
    bind(connect(), "topic", "media.#")
    media(connect().default_channel).declare()


def test_a_type_of_exchange_that_there_is_not_is_refused(
    connect: Callable[..., Connection],
) -> None:
    with pytest.raises(SettingsError, match="'headers'; there are direct, fanout, topic"):
        connect().default_channel.exchange_declare("media", type="headers")


# -- what no queue takes --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exchange", "key"),
    [("media", "audio"), ("nowhere", "media.video"), ("", ""), ("news", "")],
    ids=["no binding", "no exchange", "no name", "nobody listens"],
)
@pytest.mark.parametrize("mode", [1, 2])
def test_a_task_that_no_queue_takes_is_refused(
    session: Session, connect: Callable[..., Connection], exchange: str, key: str, mode: int
) -> None:
    bind(connect(), "topic", "media.#")
    Exchange("news", "fanout")(connect().default_channel).declare()
    before = session.query("SELECT * FROM jobs_bindings ORDER BY queue")
    with pytest.raises(UnroutableMessage, match="No queue takes"):
        publish(connect(), key, exchange, headers=TASK, delivery_mode=mode)
    assert queues(session) == []
    assert session.query("SELECT * FROM jobs_bindings ORDER BY queue") == before


@pytest.mark.usefixtures("producer_url")
def test_delay_says_that_no_queue_takes_the_task(session: Session) -> None:
    with pytest.raises(UnroutableMessage):
        app.send_task("note", exchange="nowhere", routing_key="x")
    assert queues(session) == []


def test_it_is_logged_once_for_each_exchange_and_key_if_the_user_says_so(
    connect: Callable[..., Connection],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(topology, "_missed", set())
    for _ in range(2):
        connection = connect(unroutable="log")
        for key in ("a", "b", "a", ""):
            publish(connection, key, "nowhere", headers=TASK)
    logged = [record for record in caplog.records if "No queue takes" in record.message]
    assert [record.levelno for record in logged] == [logging.ERROR] * 3


def test_a_message_that_is_no_task_is_dropped_with_a_warning(
    session: Session,
    connect: Callable[..., Connection],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(topology, "_missed", set())
    for _ in range(2):
        connection = connect()
        publish(connection, "x", "nowhere")
        publish(connection, "", "")
    logged = [record for record in caplog.records if "No queue takes" in record.message]
    assert [record.levelno for record in logged] == [logging.WARNING] * 2
    assert session.query("SELECT * FROM jobs_bindings") == []


@pytest.mark.parametrize("exchange", ["", "media", "news"])
def test_what_is_transient_and_a_command_to_nobody_are_dropped(
    session: Session, connect: Callable[..., Connection], exchange: str
) -> None:
    Exchange("news", "fanout")(connect().default_channel).declare()
    publish(connect(), "x" if exchange else "", exchange, delivery_mode=1)
    publish(connect(), "", "news")
    assert queues(session) == []


# -- several queues -------------------------------------------------------------------------------


def test_a_message_for_several_queues_is_stored_in_all_or_none(
    session: Session, connect: Callable[..., Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = connect()
    bind(connection, "fanout", "a", "b", "c")
    store, calls = Publisher.store, 0

    def fail_once(self: Publisher, job: NewJob) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise DatabaseError("The disk has gone for a walk.")
        store(self, job)

    monkeypatch.setattr(Publisher, "store", fail_once)
    with pytest.raises(DatabaseError):
        publish(connection, "")
    assert queues(session) == []
    publish(connection, "", headers=TASK)
    assert queues(session) == ["q.a", "q.b", "q.c"]


def test_the_consumers_of_all_its_queues_are_woken(
    connect: Callable[..., Connection],
) -> None:
    connection = connect(polling_interval=60)
    bind(connection, "fanout", "a", "b")
    got: list[str] = []
    for key in ("a", "b"):
        consumer = connection.Consumer(
            [Queue(f"q.{key}")], callbacks=[lambda body, _: got.append(body)], no_ack=True
        )
        consumer.consume()
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=0.5)
    publish(connect(), "")
    while len(got) < 2:
        connection.drain_events(timeout=10)


# -- connections that break -----------------------------------------------------------------------


@pytest.mark.parametrize("table", ["jobs_bindings", "jobs_exchanges", "jobs"])
@pytest.mark.usefixtures("producer_url")
def test_a_connection_lost_while_a_queue_is_declared_is_tried_again(
    session: Session, table: str
) -> None:
    sent: list[str] = []
    with Session(session.address) as locking:
        locking.execute(f"LOCK TABLES {table} WRITE")
        thread = threading.Thread(target=lambda: sent.append(note.delay("sent").id))
        thread.start()
        found = (
            "SELECT id FROM information_schema.processlist "
            "WHERE db = DATABASE() AND info LIKE %s AND id <> CONNECTION_ID()"
        )
        ((waiting,),) = eventually(lambda: session.query(found, (f"%{table}`%",)))
        session.execute("KILL %s", (waiting,))
        locking.execute("UNLOCK TABLES")
        thread.join(30)
    assert len(sent) == 1
    assert session.value("SELECT COUNT(*) FROM jobs") == 1


def test_a_closed_channel_says_that_the_connection_is_lost(
    connect: Callable[..., Connection],
) -> None:
    connection = connect()
    channel = connection.channel()
    channel.close()
    for use in (
        lambda: channel.exchange_declare("media", "topic"),
        lambda: channel.queue_declare("q"),
        lambda: channel.queue_declare("q", passive=True),
        lambda: channel.queue_bind("q", "media", "x"),
        lambda: channel.queue_unbind("q", "media", "x"),
        lambda: channel.queue_delete("q"),
        lambda: channel.queue_purge("q"),
        lambda: channel.exchange_delete("media"),
        lambda: channel.basic_get("q"),
        lambda: channel.basic_consume("q", False, print, "tag"),  # noqa: FBT003 - kombu's
        lambda: channel.basic_publish(channel.prepare_message("x", properties={}), "", "q"),
        channel.list_bindings,
    ):
        with pytest.raises(connection.connection_errors):
            use()
