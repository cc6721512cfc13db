"""kombu on the job table, in one process."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import pytest
from kombu import Connection, Consumer, Exchange, Queue

from celery_mysqllock.exceptions import (
    CannotConnect,
    ConnectionLost,
    LoginRefused,
    SettingsError,
    TableMismatch,
    TableMissing,
    UnknownDatabase,
)
from celery_mysqllock.jobs.lock_names import LockNames
from celery_mysqllock.mysql import Address, Session
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from kombu.transport.virtual import Message

Connect = "Callable[..., Connection]"


def publish(connection: Connection, body: object, queue: str = "q", **options: Any) -> None:
    with connection.Producer() as producer:
        producer.publish(body, routing_key=queue, declare=[Queue(queue)], **options)


def get(connection: Connection, queue: str = "q", **options: Any) -> Message | None:
    return Queue(queue)(connection.default_channel).get(**options)


def statuses(session: Session) -> list[int]:
    return [row[0] for row in session.query("SELECT job_status FROM jobs ORDER BY id")]


@pytest.mark.parametrize(
    ("body", "options"),
    [
        ({"a": [1, 2.5, None, "ü"]}, {}),
        ([10**30, True], {}),
        ("plain", {"content_type": "text/plain", "content_encoding": "utf-8"}),
        ("no json at all", {"content_type": "application/json", "content_encoding": "utf-8"}),
        (b"\x00\xff", {"content_type": "application/data", "content_encoding": "binary"}),
        ({"z": "x" * 500}, {"compression": "zlib"}),
        ({1, 2}, {"serializer": "pickle"}),
    ],
)
def test_a_body_arrives_as_it_was_sent(
    connect: Callable[..., Connection], body: object, options: dict[str, Any]
) -> None:
    connection = connect()
    publish(connection, body, **options)
    message = get(connection, accept={"json", "pickle", "application/data", "text/plain"})
    assert message is not None
    if body == "no json at all":
        assert message.body == b"no json at all"
    elif options.get("serializer") == "pickle":
        assert pickle.loads(message.body) == body  # noqa: S301 - our own
    else:
        assert message.payload == body


def test_a_json_body_stands_readable_in_the_row(
    connect: Callable[..., Connection], session: Session
) -> None:
    publish(connect(), [[7, "seven"], {}])
    assert session.value("SELECT JSON_EXTRACT(message, '$.body[0][1]') FROM jobs") == '"seven"'


def test_an_acked_message_is_deleted(connect: Callable[..., Connection], session: Session) -> None:
    connection = connect()
    publish(connection, 1)
    message = get(connection)
    assert message is not None
    assert statuses(session) == [1]
    message.ack()
    assert statuses(session) == []


def test_a_message_got_without_ack_is_deleted_at_once(
    connect: Callable[..., Connection], session: Session
) -> None:
    connection = connect()
    publish(connection, 1)
    assert get(connection, no_ack=True) is not None
    assert statuses(session) == []


def test_a_requeued_message_comes_again_and_says_so(connect: Callable[..., Connection]) -> None:
    connection = connect()
    publish(connection, 1)
    message = get(connection)
    assert message is not None
    assert message.delivery_info["redelivered"] is False
    message.requeue()
    message = get(connection)
    assert message is not None
    assert message.delivery_info["redelivered"] is True


def test_a_rejected_message_is_kept_as_dead(
    connect: Callable[..., Connection], session: Session
) -> None:
    connection = connect()
    publish(connection, 1)
    message = get(connection)
    assert message is not None
    message.reject()
    assert session.query("SELECT job_status, owner FROM jobs") == [(3, None)]


def test_closing_gives_back_what_was_not_settled(
    connect: Callable[..., Connection], session: Session
) -> None:
    connection = connect()
    publish(connection, 1)
    assert get(connection) is not None
    connection.release()
    assert session.query("SELECT job_status, owner FROM jobs") == [(0, None)]


def test_a_consumer_gets_no_more_than_its_prefetch_count(
    connect: Callable[..., Connection], session: Session
) -> None:
    connection = connect(polling_interval=0.2)
    for number in range(10):
        publish(connection, number)
    received: list[Message] = []
    with Consumer(connection, [Queue("q")], on_message=received.append) as consumer:
        consumer.qos(prefetch_count=4)
        for _ in range(4):
            connection.drain_events(timeout=5)
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=0.5)
        assert statuses(session) == [1] * 4 + [0] * 6
        received[0].ack()
        connection.drain_events(timeout=5)
    assert [message.payload for message in received] == [0, 1, 2, 3, 4]


def test_cancelling_a_consumer_gives_back_what_it_had_not_been_given(
    connect: Callable[..., Connection], session: Session
) -> None:
    connection = connect()
    for number in range(3):
        publish(connection, number)
    received: list[Message] = []
    consumer = Consumer(connection, [Queue("q")], on_message=received.append)
    consumer.consume()
    connection.drain_events(timeout=5)
    assert statuses(session) == [1, 1, 1]
    consumer.cancel()
    eventually(lambda: statuses(session) == [1, 0, 0])


def test_direct_and_topic_exchanges_route(connect: Callable[..., Connection]) -> None:
    connection = connect()
    topic = Exchange("logs", "topic")
    queues = [Queue("errors", topic, routing_key="*.error"), Queue("all", topic, routing_key="#")]
    with connection.Producer() as producer:
        for key in ("disk.error", "disk.info"):
            producer.publish(key, exchange=topic, routing_key=key, declare=queues)

    def drained(queue: str) -> list[object]:
        messages = iter(lambda: get(connection, queue), None)
        return [message.payload for message in messages]

    assert drained("errors") == ["disk.error"]
    assert drained("all") == ["disk.error", "disk.info"]


def test_a_passive_declaration_counts_what_waits(connect: Callable[..., Connection]) -> None:
    connection = connect()
    publish(connection, 1)
    publish(connection, 2)
    assert connection.default_channel.queue_declare("q", passive=True).message_count == 2
    assert connection.default_channel.queue_purge("q") == 2


def test_a_killed_session_is_a_connection_error(
    connect: Callable[..., Connection], session: Session
) -> None:
    connection = connect()
    others = "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> %s"
    for (other,) in session.query(others, (session.connection_id,)):
        session.execute("KILL %s", (other,))
    with pytest.raises(ConnectionLost) as caught:
        publish_once(connection)
    assert isinstance(caught.value, connection.connection_errors)


def publish_once(connection: Connection) -> None:
    with connection.channel() as channel:
        channel.basic_publish(channel.prepare_message("1"), exchange="", routing_key="q")


def test_a_consumer_notices_that_its_liveness_session_is_gone(
    connect: Callable[..., Connection], session: Session
) -> None:
    connection = connect(recovery_grace=1.0)
    with Consumer(connection, [Queue("q")], on_message=lambda _: None):
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=0)
        identity = connection.transport.dispatcher.identity
        lock = LockNames.of(session, "jobs").consumer(identity)
        holder = eventually(lambda: session.value("SELECT IS_USED_LOCK(%s)", (lock,)))
        session.execute("KILL %s", (holder,))
        with pytest.raises(ConnectionLost):
            connection.drain_events(timeout=30)


def refusal(url: str, **options: object) -> BaseException:
    """The error that a connection to the URL fails with."""
    with pytest.raises(Exception) as caught, Connection(url, transport_options=options) as broken:  # noqa: PT011 - any error is looked at
        broken.connect()
    return caught.value


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (
            lambda url: url.replace(":", ":not-the-password-", 2).replace(
                ":not-the-password-", ":", 1
            ),
            LoginRefused,
        ),
        (lambda url: f"{url}_gone", UnknownDatabase),
        (lambda url: url.rsplit("@", 1)[0] + "@127.0.0.1:1/x", CannotConnect),
        (lambda url: url.rsplit("/", 1)[0], SettingsError),
    ],
)
def test_a_wrong_url_gives_one_clear_error_without_the_password(
    url: str, change: Callable[[str], str], error: type[Exception]
) -> None:
    refused = refusal(change(url))
    assert isinstance(refused, error)
    assert Address.parse(url).password not in str(refused)


def test_a_url_may_hold_options(session: Session) -> None:
    url = f"{session.address.url()}?connect_timeout=7"
    with Connection(url) as connection:
        publish(connection, 1)
        assert get(connection) is not None


def test_an_unknown_option_in_the_url_is_refused_by_name(url: str) -> None:
    refused = refusal(f"{url}?conect_timeout=7")
    assert isinstance(refused, SettingsError)
    assert "'conect_timeout'" in str(refused)


def test_a_missing_table_is_an_error_that_says_how_to_make_it(url: str) -> None:
    refused = refusal(url)
    assert isinstance(refused, TableMissing)
    assert "celery -A <app> mysqllock migrate" in str(refused)


def test_a_missing_table_is_made_on_first_use_when_the_setting_says_so(url: str) -> None:
    with Connection(url, transport_options={"create_table": True}) as connection:
        publish(connection, 1)
        assert get(connection) is not None


def test_a_table_of_another_shape_is_never_changed_on_first_use(url: str) -> None:
    with Session(Address.parse(url)) as session:
        session.execute("CREATE TABLE jobs (id INT PRIMARY KEY, title TEXT)")
        assert isinstance(refusal(url, create_table=True), TableMismatch)
        assert len(session.query("DESCRIBE jobs")) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tabel": "jobs"}, "'tabel'] is unknown; known are"),
        ({"polling_interval": "often"}, "'polling_interval']='often' is not allowed; it takes"),
        ({"table": "jobs; --"}, "'table']='jobs; --' is not allowed"),
        ({"retention": float("inf")}, "'retention']=inf is not allowed"),
        ({"unknown_task_grace": "99999999999d"}, "'unknown_task_grace']='99999999999d' is not"),
        ({"text_task": {"q": 7}}, "'text_task']={'q': 7} is not allowed"),
        ({"legacy_lock": "x" * 65}, "it takes the name of a lock of 1 to 64 characters"),
    ],
)
def test_wrong_options_fail_at_start_with_what_is_allowed(
    url: str, options: dict[str, object], message: str
) -> None:
    refused = refusal(url, **options)
    assert isinstance(refused, SettingsError)
    assert message in str(refused)


def test_an_exchange_that_gets_a_listener_serves_it_at_once(
    connect: Callable[..., Connection],
) -> None:
    connection = connect()
    news = Exchange("news", "fanout", delivery_mode="transient")
    listener = Queue("listener", news, auto_delete=True)
    with connection.Producer() as producer:
        producer.publish("nobody hears this", exchange=news, declare=[news])
        producer.publish("but this", exchange=news, declare=[listener])
    message = get(connection, "listener")
    assert message is not None
    assert message.payload == "but this"


@pytest.mark.parametrize("kind", ["direct", "fanout"])
def test_a_reply_reaches_a_client_that_came_after_one_that_did_not_wait(
    connect: Callable[..., Connection], kind: str
) -> None:
    replies = Exchange("replies", kind, delivery_mode="transient")
    worker = connect()
    with worker.Producer() as producer:
        producer.publish("too late", exchange=replies, routing_key="you", declare=[replies])
        Queue("client", replies, "you", auto_delete=True)(connect().default_channel).declare()
        producer.publish("in time", exchange=replies, routing_key="you")
    message = get(connect(), "client")
    assert message is not None
    assert message.payload == "in time"


def test_what_one_connection_binds_another_publishes_to_and_a_third_deletes(
    connect: Callable[..., Connection],
) -> None:
    news = Exchange("news", "fanout")
    listener = Queue("listener", news, auto_delete=True)
    listener(connect().default_channel).declare()
    publisher = connect()
    with publisher.Producer() as producer:
        producer.publish("heard", exchange=news, declare=[news])
    assert get(connect(), "listener") is not None
    connect().default_channel.queue_delete("listener")
    with publisher.Producer() as producer:
        producer.publish("not heard", exchange=news)
    assert get(connect(), "listener") is None


def test_a_cancelled_consumer_of_an_ephemeral_queue_leaves_the_rest_in_it(
    connect: Callable[..., Connection],
) -> None:
    connection = connect()
    queue = Queue("passing", auto_delete=True)
    with connection.Producer() as producer:
        for number in range(3):
            producer.publish(number, routing_key="passing", declare=[queue])
    received: list[Message] = []
    with Consumer(connection, [queue], on_message=received.append, no_ack=True):
        connection.drain_events(timeout=5)
    left = iter(lambda: get(connection, "passing"), None)
    assert [message.payload for message in (*received, *left)] == [0, 1, 2]


def test_a_requeued_message_wakes_another_idle_consumer(
    connect: Callable[..., Connection],
) -> None:
    # without the ring it would be found in a minute
    first, second = connect(polling_interval=60), connect(polling_interval=60)
    publish(first, 1)
    message = get(first)
    received: list[Message] = []
    with Consumer(second, [Queue("q")], on_message=received.append):
        with pytest.raises(TimeoutError):
            second.drain_events(timeout=0.5)
        assert message is not None
        message.requeue()
        second.drain_events(timeout=20)
    assert received[0].delivery_info["redelivered"] is True
