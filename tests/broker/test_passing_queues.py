"""A task is a task, also in a queue that expires, or goes with its consumer."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from kombu import Connection, Consumer, Exchange, Queue

from celery_mysqllock.jobs import EphemeralQueues, JobTable, ephemeral
from tests.broker.app import app, late, note
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from kombu.transport.virtual import Message

    from celery_mysqllock.mysql import Session
    from tests.broker.worker import Worker

TASK = {"task": "note", "id": "an-id"}
KINDS: dict[str, dict[str, Any]] = {
    "expires": {"expires": 3600},
    "auto_delete": {"auto_delete": True},
    "exclusive": {"exclusive": True},
    "ttl": {"expires": 3600, "message_ttl": 600},
}
DEAD = "d" * 32


@pytest.fixture(params=list(KINDS))
def queue(request: pytest.FixtureRequest) -> Queue:
    """A queue of each kind that passes."""
    return Queue("tenant", **KINDS[request.param])


def publish(connection: Connection, body: object, queue: Queue, **options: Any) -> None:
    with connection.Producer() as producer:
        task = [[body], {}, {}]
        producer.publish(task, routing_key=queue.name, declare=[queue], headers=TASK, **options)


def counts(session: Session) -> tuple[int, int]:
    """Jobs that wait, and messages beside them."""
    (found,) = session.query(
        "SELECT (SELECT COUNT(*) FROM jobs WHERE job_status = 0),"
        " (SELECT COUNT(*) FROM jobs_ephemeral_messages)"
    )
    return found[0], found[1]


def test_a_task_is_a_job_and_keeps_the_window(
    session: Session, connect: Callable[..., Connection], queue: Queue
) -> None:
    connection = connect()
    for number in range(10):
        publish(connection, number, queue)
    assert counts(session) == (10, 0)
    got: list[Message] = []
    consumer = Consumer(connection, [queue], on_message=got.append)
    consumer.qos(prefetch_count=2)
    consumer.consume()
    while len(got) < 2:
        connection.drain_events(timeout=10)
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=0.3)
    for _ in range(8):
        got.pop(0).ack()
        connection.drain_events(timeout=10)
    assert [message.payload[0][0] for message in got] == [8, 9]


@pytest.mark.parametrize("options", [{"countdown": 0.5}, {"priority": 9}, {}])
@pytest.mark.usefixtures("producer_url")
def test_tasks_of_celery_in_such_a_queue_run(
    session: Session, start_worker: Callable[..., Worker], options: dict[str, Any]
) -> None:
    tenant = Queue("tenant", expires=3600)
    start_worker()
    note.apply_async(("sent",), queue=tenant, **options)
    app.control.add_consumer("tenant", options={"expires": 3600}, reply=True)
    eventually(lambda: session.query("SELECT entry FROM ledger") == [("sent",)])


def test_what_a_dead_consumer_had_comes_back(
    session: Session, connect: Callable[..., Connection], queue: Queue
) -> None:
    publisher, heir = connect(), connect(polling_interval=0.2, recovery_grace=1.0)
    publish(publisher, "mine", queue)
    publish(publisher, "next", queue)
    session.execute("UPDATE jobs_ephemeral_queues SET owner = %s", (DEAD,))
    JobTable(session).claims.claim("tenant", 1, DEAD)
    got: list[object] = []
    with Consumer(heir, [Queue("other")], on_message=print):
        # the queue has lost its consumer, and stays for what is in it
        eventually(lambda: counts(session) == (2, 0) or not _drain(heir))
        owners = "SELECT queue, owner FROM jobs_ephemeral_queues"
        eventually(lambda: session.query(owners) == [("tenant", None)] or not _drain(heir))
    with Consumer(heir, [queue], on_message=lambda message: _take(got, message)):
        eventually(lambda: _drain(heir) and sorted(map(str, got)) == ["mine", "next"])


def _take(got: list[object], message: Message) -> None:
    got.append(message.payload[0][0])
    message.ack()


def _drain(connection: Connection) -> bool:
    with suppress(TimeoutError):
        connection.drain_events(timeout=0.05)
    return True


def test_a_queue_with_jobs_does_not_expire_and_loses_its_bindings(
    session: Session, connect: Callable[..., Connection]
) -> None:
    queue = Queue("tenant", exchange="amq.direct", routing_key="t", expires=60)
    connection = connect()
    publish(connection, "kept", queue)
    Queue("empty", expires=60)(connection.default_channel).declare()
    with connection.Producer() as producer:
        producer.publish("control traffic", routing_key="tenant")
    assert counts(session) == (1, 1)
    session.execute("UPDATE jobs_ephemeral_queues SET touched_at = NOW(6) - INTERVAL 61 SECOND")
    queues = EphemeralQueues(session)
    queues.delete_expired()
    assert session.query("SELECT queue FROM jobs_ephemeral_queues") == [("tenant",)]
    assert session.query("SELECT queue FROM jobs_bindings WHERE exchange <> ''") == []
    assert counts(session) == (1, 0)
    session.execute("DELETE FROM jobs")
    queues.delete_expired()
    assert session.query("SELECT queue FROM jobs_ephemeral_queues") == []


@pytest.mark.parametrize("status", [0, 2, 4])
def test_jobs_that_nobody_comes_back_for_are_dead_after_an_hour(
    session: Session, connect: Callable[..., Connection], queue: Queue, status: int
) -> None:
    connection = connect()
    publish(connection, "left", queue)
    session.execute(
        "UPDATE jobs SET job_status = %s, due_at = IF(%s = 2, '2050-01-01', NULL)",
        (status, status),
    )
    queues = EphemeralQueues(session)
    queues.leave_those_of(connection.transport.dispatcher.identity)
    aged = "UPDATE jobs_ephemeral_queues SET touched_at = NOW(6) - INTERVAL %s SECOND, expires = 60"
    session.execute(aged, (3500,))
    queues.delete_expired()
    assert session.query("SELECT job_status FROM jobs") == [(status,)]
    session.execute(aged, (3700,))
    queues.delete_expired()
    ((job_status, due_at, reason),) = session.query("SELECT job_status, due_at, reason FROM jobs")
    assert (job_status, due_at) == (3, None)
    assert "'tenant' goes with its consumers" in reason
    assert session.query("SELECT queue FROM jobs_ephemeral_queues") == []


def test_a_task_for_a_consumer_that_acknowledges_nothing_arrives(
    session: Session, connect: Callable[..., Connection], queue: Queue
) -> None:
    connection = connect(polling_interval=60)
    got: list[object] = []
    with Consumer(
        connection, [queue], callbacks=[lambda body, _: got.append(body[0][0])], no_ack=True
    ):
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=0.3)
        publish(connect(), "a task", queue)
        while not got:
            connection.drain_events(timeout=10)
        assert connection.default_channel.inbox.fetcher is None
    assert got == ["a task"]
    assert counts(session) == (0, 0)


@pytest.mark.usefixtures("producer_url")
def test_the_first_protocol_of_celery_is_known_for_tasks(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.amqp, "task_protocols", app.amqp.task_protocols)
    monkeypatch.setattr(app.amqp, "create_task_message", app.amqp.as_task_v1)
    monkeypatch.setattr(app.amqp, "send_task_message", app.amqp._create_task_sender())  # noqa: SLF001 - as Celery does
    note.apply_async(("old",), queue=Queue("tenant", expires=3600))
    assert counts(session) == (1, 0)


def test_the_time_of_messages_in_the_queue_holds_for_tasks_of_others(
    session: Session, connect: Callable[..., Connection]
) -> None:
    Queue("tenant", expires=3600, message_ttl=60)(connect().default_channel).declare()
    with connect().Producer() as producer:
        producer.publish("x", routing_key="tenant", headers=TASK)
    left = "SELECT TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(), expires_at) FROM jobs"
    assert 50 < session.value(left) <= 60


@pytest.mark.usefixtures("producer_url")
def test_a_killed_worker_leaves_all_that_it_has_not_done(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    tenant = Queue("tenant", expires=3600)
    settings = '{"task_acks_late": true, "worker_prefetch_multiplier": 1}'
    worker = start_worker("--concurrency=1", CELERY_SETTINGS=settings)
    for number in range(20):
        late.apply_async((number, 600.0), queue=tenant)
    app.control.add_consumer("tenant", options={"expires": 3600}, reply=True)
    eventually(lambda: session.value("SELECT COUNT(*) FROM ledger"))
    assert session.value("SELECT COUNT(*) FROM jobs WHERE owner IS NOT NULL") <= 2
    worker.kill()
    assert session.value("SELECT COUNT(*) FROM jobs") == 20
    assert ephemeral._FOR_GOOD == 3600  # noqa: SLF001 - docs/explanation/broker.md says so


@pytest.mark.parametrize("kind", ["fanout", "topic"])
def test_a_message_to_a_queue_that_is_being_deleted_is_no_job(
    kind: str,
    session: Session,
    connect: Callable[..., Connection],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exchange = Exchange("news", type=kind)
    connection = connect()
    queue = Queue("listener", exchange, routing_key="#", auto_delete=True)
    queue(connection.default_channel).declare()
    queues = EphemeralQueues(session)
    assert queues.use("listener", DEAD)
    producer = connection.Producer(exchange=exchange)
    execute = session.execute

    def execute_and_publish(sql: str, parameters: Any = None) -> int:
        changed = execute(sql, parameters)
        producer.publish("extra", routing_key="paper")
        return changed

    monkeypatch.setattr(session, "execute", execute_and_publish)
    queues.leave_those_of(DEAD)
    monkeypatch.undo()
    assert not queues.exists("listener")
    assert counts(session) == (0, 0)
