"""Messages a second through kombu: published one by one with a confirmation, and consumed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pymysql
from kombu import Connection, Consumer, Exchange, Queue

from celery_mysqllock.mysql import Address

if TYPE_CHECKING:
    from benchmarks.broker.brokers import Broker

PREFETCH = 64
# as long as Celery's message for a task without arguments
MESSAGE = {"task": "bench.note", "args": [1], "kwargs": {}, "padding": "x" * 400}
_WARM = 10  # messages that are not measured
_PATIENCE = 20.0  # seconds for one message


def rates(broker: Broker, messages: int) -> tuple[float, float]:
    """Publish so many messages, then consume all of them; both in messages a second."""
    # the default exchange, as Celery publishes to its direct queues
    queue = Queue("rates", Exchange(""), "rates", durable=True)
    with Connection(broker.url, transport_options=broker.options) as connection:
        producer = connection.Producer()
        queue(connection.default_channel).declare()
        for _ in range(_WARM):
            producer.publish(MESSAGE, exchange="", routing_key="rates", delivery_mode=2)
        began = time.perf_counter()
        for _ in range(messages):
            producer.publish(MESSAGE, exchange="", routing_key="rates", delivery_mode=2)
        published = messages / (time.perf_counter() - began)
    return published, consume(broker, queue, messages + _WARM)


def consume(broker: Broker, queue: Queue, messages: int) -> float:
    """Consume so many messages that are there, and ack each; in messages a second."""
    seen = 0

    def ack(_: object, message: Any) -> None:  # noqa: ANN401 - kombu's
        nonlocal seen
        message.ack()
        seen += 1

    with Connection(broker.url, transport_options=broker.options) as connection:
        channel = connection.channel()
        channel.basic_qos(0, PREFETCH, False)  # noqa: FBT003 - AMQP's signature
        with Consumer(channel, [queue], callbacks=[ack]):
            connection.drain_events(timeout=_PATIENCE)
            first, began = seen, time.perf_counter()
            while seen < messages:
                connection.drain_events(timeout=_PATIENCE)
            return (messages - first) / (time.perf_counter() - began)


def bare_inserts(url: str, messages: int) -> float:
    """Rows a second that PyMySQL inserts into a plain table, each committed."""
    address = Address.parse(url)
    connection = pymysql.connect(
        host=address.host,
        port=address.port,
        user=address.user,
        password=address.password,
        database=address.database,
        autocommit=True,
    )
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE IF NOT EXISTS bare (id BIGINT AUTO_INCREMENT PRIMARY KEY,"
            " message LONGTEXT NOT NULL, job_status TINYINT NOT NULL DEFAULT 0)"
        )
        began = time.perf_counter()
        for _ in range(messages):
            cursor.execute("INSERT INTO bare (message) VALUES (%s)", ("x" * 800,))
        rate = messages / (time.perf_counter() - began)
        cursor.execute("DROP TABLE bare")
    return rate
