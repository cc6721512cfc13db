"""Bad input and a server that cannot: a clear message, nothing lost, and the worker goes on."""

from __future__ import annotations

import base64
import bz2
import json
import lzma
import pickle
import uuid
import zlib
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from celery.utils.dispatch import Signal
from kombu import Queue

from tests.broker.app import app, note
from tests.broker.worker import POOLS
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kombu import Connection

    from celery_mysqllock.mysql import Session
    from tests.broker.worker import Worker

StartWorker = "Callable[..., Worker]"
pytestmark = pytest.mark.usefixtures("producer_url")
# What no worker knows is dead at once.
OPTIONS = '{"text_task": null, "unknown_task_grace": null}'


def envelope(  # noqa: PLR0913 - each is a part of a row
    *,
    body: object = ((1, 2), {}, {}),
    encoding: str = "json",
    content_type: object = "application/json",
    content_encoding: object = "utf-8",
    headers: object = None,
    properties: object = None,
) -> str:
    """A row as ``add.delay(1, 2)`` stores it, with other things in it."""
    row = {
        "body": body,
        "body-encoding": encoding,
        "content-type": content_type,
        "content-encoding": content_encoding,
        "headers": {"lang": "py", "task": "add", "id": "x"} if headers is None else headers,
        "properties": {"delivery_mode": 2, "priority": 0} if properties is None else properties,
    }
    return json.dumps(row)


def ledger(session: Session) -> list[str]:
    return [row[0] for row in session.query("SELECT entry FROM ledger")]


# What is in the row, and what its reason says when it is dead.
BAD_ROWS = {
    "a broken envelope": (envelope()[:-1], "no JSON object"),
    "a list": ("[1, 2]", "no JSON object"),
    "a number": ("7", "no JSON object"),
    "nothing": ("", "no JSON object"),
    "headers that are none": (envelope(headers=[1]), "headers"),
    "properties that are none": (envelope(properties="x"), "properties"),
    "a delivery_info that is none": (
        envelope(properties={"delivery_info": 5}),
        "delivery_info must be",
    ),
    "broken base64": (envelope(body="not base64!", encoding="base64"), "no base64: Only"),
    "base64 of a number": (envelope(body=7, encoding="base64"), "no base64: argument"),
    "an encoding that nobody knows": (envelope(body="x", encoding="rot13"), "'rot13'"),
    "a text that is no text": (envelope(body={"a": 1}, encoding="text"), "no text"),
    "a body that is no JSON": (envelope(body="{[", encoding="text"), "cannot be decoded"),
    "a body of too few parts": (envelope(body=[[1, 2]]), "[args, kwargs, options]"),
    "a body that is a number": (envelope(body=7), "[args, kwargs, options]"),
    "args that are none": (envelope(body=["12", {}, {}]), "[args, kwargs, options]"),
    "an unknown content type": (
        envelope(body="?", encoding="text", content_type="application/x-unknown"),
        "untrusted content of type application/x-unknown",
    ),
    "a content type that is none": (envelope(content_type=[7]), "'content-type' is [7]"),
    "pickle": (
        envelope(
            body=base64.b64encode(pickle.dumps([[1, 2], {}, {}])).decode(),
            encoding="base64",
            content_type="application/x-python-serialize",
            content_encoding="binary",
        ),
        "untrusted content of type pickle",
    ),
    "a compression that nobody knows": (
        envelope(headers={"task": "add", "id": "x", "compression": "magic"}),
        "cannot be decoded",
    ),
    "an unknown task": (envelope(headers={"task": "unheard_of", "id": "x"}), "no task 'unheard_of"),
    "no task": (envelope(headers={}), "names no task"),
    "a message of protocol 1 without a task": (
        envelope(headers={}, body={"id": "x"}),
        "names no task",
    ),
    "a task that is a number": (envelope(headers={"task": 7, "id": "x"}), "'task' is 7"),
    "a task that is a list": (envelope(headers={"task": ["add"], "id": "x"}), "'task' is ["),
    "an eta that is none": (envelope(headers={"task": "add", "id": "x", "eta": "late"}), "ETA"),
    "an expiry that is none": (
        envelope(headers={"task": "add", "id": "x", "expires": "soon"}),
        "expires",
    ),
    "time limits that are none": (
        envelope(headers={"task": "add", "id": "x", "timelimit": 5}),
        "timelimit",
    ),
    "a name that no column holds": ('{"task": "' + "x" * 65_536 + '"}', "1 to 1000 characters"),
    "a long name in an envelope": (envelope(headers={"task": "x" * 65_536}), "1 to 1000 charac"),
    "a name of half a character": (envelope(headers={"task": "\ud83e"}), "'task'"),
    "a content type of half a character": (envelope(content_type="\ud83d"), "'content-type'"),
    "a content encoding that is an object": (
        envelope(content_encoding={"a": 1}),
        "'content-encoding'",
    ),
    "a half character in the name of an argument": (
        '{"task": "add", "kwargs": {"\\ud83e": 1}}',
        "does not take the arguments",
    ),
    "a half character in a field's name": ('{"task": "add", "\\ud83e": 1}', "unknown field"),
    "a half character in text": (envelope(body="\ud83e", encoding="text"), "cannot be decoded"),
    "nested beyond what JSON takes": (
        '{"task": "add", "args": ' + "[" * 200_000 + "]" * 200_000 + "}",
        "JSON",
    ),
    "options that are no signatures": (
        envelope(body=[[1, 2], {}, {"callbacks": [5]}]),
        "'callbacks'",
    ),
    "a chord of a number": (envelope(body=[[1, 2], {}, {"chord": 5}]), "'chord'"),
    "protocol 1, a task that is a list": (
        envelope(headers={}, body={"task": [], "id": "x"}),
        "'task'",
    ),
    "protocol 1, no id": (envelope(headers={}, body={"task": "add", "args": [1, 2]}), "no id"),
    "between the protocols": (
        envelope(headers={"task": "add"}, body={"args": [1, 2], "shadow": [[]]}),
        "'shadow'",
    ),
    "a body in pieces": (envelope(body="[[1, 2], {}]", encoding="text"), "[args, kwargs, options]"),
    "a type that nobody knows in the headers": (
        envelope(headers={"task": "add", "x": {"__type__": "nope", "__value__": 1}}),
        "headers cannot be decoded",
    ),
    **{
        f"the header {name} is {value!r:.20}": (
            envelope(headers={"task": "add", name: value}),
            f"{name!r}",
        )
        for name, value in [
            *(("id", 5), ("id", "\ud83e"), ("id", "x" * 256), ("root_id", []), ("group", {})),
            *(("retries", "x"), ("retries", -1), ("retries", True), ("timelimit", ["a", 1])),
            *(("timelimit", [float("nan"), 1]), ("timelimit", [1]), ("shadow", {}), ("eta", 5)),
            *(
                ("eta", "9999-12-31T23:59:59-12:00"),
                ("expires", {}),
                ("expires", "0001-01-01T00:00:00+14:00"),
            ),
            *(("stamped_headers", 5), ("stamped_headers", [[]]), ("stamps", "x"), ("groups", 5)),
            *(("compression", [1]), ("ignore_result", "x"), ("argsrepr", 5), ("group_index", "x")),
        ]
    },
    **{
        f"the property {name} is {value!r}": (envelope(properties={name: value}), f"{name!r}")
        for name, value in [
            *(("reply_to", 5), ("correlation_id", []), ("priority", "x"), ("delivery_mode", {})),
        ]
    },
    "a delivery_info of other types": (
        envelope(properties={"delivery_info": {"exchange": {}}}),
        "'exchange'",
    ),
}
# Rows that look bad and run.
ODD_ROWS = {
    "half characters in arguments": '{"task": "note", "args": ["\\ud83e"]}',
    "half characters in an envelope": envelope(
        headers={"task": "note", "argsrepr": "\ud83e"}, body=[["\ud83e"], {}, {}]
    ),
    "an encoding that kombu would decode by": envelope(
        headers={"task": "note"},
        body=[["encoding"], {}, {}],
        properties={"body_encoding": "x", "delivery_info": {"consumer_tag": {}}},
    ),
    "retries that are null": envelope(
        headers={"task": "note", "retries": None}, body=[["retries"], {}, {}]
    ),
    "protocol 1": envelope(headers={}, body={"task": "note", "id": "x", "args": ["old"]}),
}


@pytest.mark.parametrize("pool", POOLS)
def test_rows_that_cannot_be_read_are_kept_as_dead_and_the_worker_goes_on(
    session: Session, start_worker: Callable[..., Worker], pool: str
) -> None:
    expected = {}
    for what, (row, reason) in BAD_ROWS.items():
        session.execute("INSERT INTO jobs (message) VALUES (%s)", (row,))
        expected[what] = (session.value("SELECT LAST_INSERT_ID()"), reason)
    worker = start_worker("--pool", pool, BROKER_OPTIONS=OPTIONS)
    note.delay("still here")
    eventually(lambda: ledger(session) == ["still here"] or worker.has_ended)
    assert not worker.has_ended, worker.log
    eventually(lambda: not session.query("SELECT 1 FROM jobs WHERE job_status <> 3"))
    said = dict(session.query("SELECT id, reason FROM jobs"))
    assert {
        what: said.get(job_id)
        for what, (job_id, reason) in expected.items()
        if reason not in said.get(job_id, "")
    } == {}


def test_a_task_of_an_envelope_without_an_id_runs(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    row = envelope(headers={"task": "note"}, body=[["ran"], {}, {}])
    session.execute("INSERT INTO jobs (message) VALUES (%s)", (row,))
    start_worker()
    eventually(lambda: ledger(session) == ["ran"])


@pytest.mark.parametrize("pool", POOLS)
def test_odd_rows_run(session: Session, start_worker: Callable[..., Worker], pool: str) -> None:
    for row in ODD_ROWS.values():
        session.execute("INSERT INTO jobs (message) VALUES (%s)", (row,))
    session.execute("SET SESSION sql_mode = ''")
    session.execute(
        "INSERT INTO jobs (message, created_at, claimed_at) VALUES (%s, 0, 0)",
        ('{"task": "note", "args": ["no day"]}',),
    )
    # MySQL counts no time from a zero date, in whichever row it is
    session.execute(
        "INSERT INTO jobs (message, job_status, due_at) VALUES (%s, 2, 0), ('x', 1, 0)",
        ('{"task": "note", "args": ["due on no day"]}',),
    )
    for queue in ("celery ", "celery   "):
        session.execute(
            "INSERT INTO jobs (message, queue) VALUES (%s, %s)",
            (json.dumps({"task": "note", "args": [f"{len(queue)} long"], "queue": queue}), queue),
        )
    start_worker("--pool", pool)
    entries = [
        "7 long",
        "9 long",
        "\\ud83e",
        "\\ud83e",
        "due on no day",
        "encoding",
        "no day",
        "old",
        "retries",
    ]
    eventually(lambda: len(ledger(session)) == len(entries))
    assert sorted(ledger(session)) == sorted(entries)
    eventually(lambda: session.query("SELECT message FROM jobs") == [("x",)])


@pytest.mark.parametrize("eta", ["9999-12-31T23:59:59", "9999-12-31T23:59:59.999999+00:00"])
def test_the_end_of_all_times_is_waited_for(
    session: Session, start_worker: Callable[..., Worker], eta: str
) -> None:
    row = json.dumps({"task": "note", "args": ["never"], "eta": eta})
    wrapped = envelope(headers={"task": "note", "eta": f"{eta:.19}"}, body=[["never"], {}, {}])
    parts = {"task": "note", "id": "x", "args": ["never"], "kwargs": {}, "eta": f"{eta:.19}"}
    for message in (row, wrapped, envelope(headers={}, body=parts)):
        session.execute("INSERT INTO jobs (message) VALUES (%s)", (message,))
    worker = start_worker("--pool", "solo")
    query = "SELECT COUNT(*) FROM jobs WHERE job_status = 2 AND YEAR(due_at) = 9999"
    eventually(lambda: session.value(query) == 3)
    note.apply_async(("never",), eta=datetime.max.replace(tzinfo=UTC))
    assert session.value(query) == 4
    note.delay("now")
    eventually(lambda: ledger(session) == ["now"])
    assert not worker.has_ended


@pytest.mark.parametrize("pool", POOLS)
def test_arguments_that_no_pool_takes_are_dead_and_what_follows_runs(
    session: Session, start_worker: Callable[..., Worker], pool: str
) -> None:
    depth = _beyond_pickle() if pool == "prefork" else 500
    deep = "[" * depth + "]" * depth
    for _ in range(5):
        message = f'{{"task": "note", "args": [{deep}]}}'
        session.execute("INSERT INTO jobs (message) VALUES (%s)", (message,))
        late = envelope(headers={"task": "late"}, body=[[0], {}, {}]).replace("[0]", f"[{deep}]")
        session.execute("INSERT INTO jobs (message) VALUES (%s)", (late,))
    worker = start_worker("--pool", pool)
    for number in range(20):
        note.delay(number)
    eventually(lambda: {*map(str, range(20))} <= set(ledger(session)) or worker.has_ended)
    assert not worker.has_ended, worker.log
    eventually(lambda: not session.query("SELECT 1 FROM jobs WHERE job_status <> 3"))
    if pool == "prefork":
        reasons = {row[0] for row in session.query("SELECT reason FROM jobs")}
        assert len(reasons) == 1
        assert "cannot be handed to the pool: RecursionError" in reasons.pop()
    assert worker.stop() == 0


def _beyond_pickle() -> int:
    """How deep a list is that JSON takes and pickle does not; each Python has other limits."""
    for depth in range(500, 100_000, 500):
        try:
            pickle.dumps(json.loads("[" * depth + "]" * depth))
        except RecursionError:
            return depth
    raise AssertionError("pickle takes any depth")


@pytest.mark.parametrize("method", ["zlib", "bzip2", "lzma"])
def test_a_body_that_unpacks_to_gigabytes_is_dead_and_not_unpacked(
    session: Session, start_worker: Callable[..., Worker], method: str
) -> None:
    packers: dict[str, Any] = {
        "zlib": zlib.compressobj(9),  # the least bytes: a server may take 4 MiB at most
        "bzip2": bz2.BZ2Compressor(),
        "lzma": lzma.LZMACompressor(preset=0),
    }
    packer: Any = packers[method]
    million = b" " * 1_000_000
    packed = b"".join(packer.compress(million) for _ in range(800)) + packer.flush()
    body = base64.b64encode(packed).decode()
    headers = {"task": "add", "compression": method}
    for _ in range(2):
        row = envelope(headers=headers, body=body, encoding="base64")
        session.execute("INSERT INTO jobs (message) VALUES (%s)", (row,))
    worker = start_worker("--pool", "solo")
    note.apply_async(("packed",), compression=method)
    eventually(lambda: ledger(session) == ["packed"])
    eventually(lambda: session.value("SELECT COUNT(*) FROM jobs WHERE job_status = 3") == 2)
    assert "more than 67108864 bytes" in session.value("SELECT reason FROM jobs LIMIT 1")
    assert worker.most_memory < 400_000_000


def test_an_error_of_the_result_backend_buries_the_message_and_not_the_worker(
    session: Session, start_worker: Callable[..., Worker], tmp_path: Path
) -> None:
    backend = tmp_path / "results"
    backend.mkdir()
    worker = start_worker("--pool", "solo", RESULT_BACKEND=f"file://{backend}")
    # an id that is no name of a file, of a task that has to be told as failed
    row = envelope(
        headers={"task": "add", "id": "no/such/folder", "expires": "2001-01-01T00:00:00"}
    )
    session.execute("INSERT INTO jobs (message) VALUES (%s)", (row,))
    eventually(lambda: session.value("SELECT COUNT(*) FROM jobs WHERE job_status = 3") == 1)
    assert "cannot take the message" in session.value("SELECT reason FROM jobs")
    note.delay("still here")
    eventually(lambda: ledger(session) == ["still here"])
    assert not worker.has_ended


@pytest.mark.parametrize("pool", POOLS)
def test_ephemeral_messages_that_are_none_are_dropped(
    session: Session, start_worker: Callable[..., Worker], pool: str
) -> None:
    worker = start_worker("--pool", pool)
    eventually(lambda: app.control.ping(timeout=1))
    bodies = [5, [], {}, {"method": {}}, {"method": "ping", "arguments": 5}, {"method": ["a"]}]
    texts = [
        *("x", "", "[1]", "{}", "null", '{"body": 1, "headers": 2, "properties": 3}', "[" * 50_000),
        *(envelope(headers={}, body=body) for body in bodies),
        envelope(headers={"compression": 5}),
        envelope(headers={}, content_type="application/x-python-serialize", body=""),
        envelope(headers={}, body="{", encoding="text"),
    ]
    for text in texts * 5:
        session.execute(
            "INSERT INTO jobs_ephemeral_messages (queue, message, claim_order)"
            " SELECT queue, %s, 9 FROM jobs_ephemeral_queues",
            (text,),
        )
    eventually(lambda: not session.value("SELECT COUNT(*) FROM jobs_ephemeral_messages"))
    eventually(lambda: app.control.ping(timeout=5))
    note.delay("still here")
    eventually(lambda: ledger(session) == ["still here"])
    assert not worker.has_ended
    assert "cannot be read and is dropped" in worker.log
    # what Celery begins anew after an error of a command is its remote control, and no more
    assert "Connection to broker lost" not in worker.log


@pytest.mark.parametrize("pool", ["solo", "gevent"])
def test_a_control_command_with_a_queue_that_is_none_is_refused(
    session: Session, start_worker: Callable[..., Worker], pool: str
) -> None:
    if pool not in POOLS:
        pytest.skip(f"{pool} is not installed")
    worker = start_worker("--pool", pool)
    queues: list[Any] = [{"a": 1}, 0, 5, [], "", "x" * 300, "\ud83e", None]
    for queue in queues:
        app.control.broadcast("add_consumer", arguments={"queue": queue})
        app.control.broadcast("cancel_consumer", arguments={"queue": queue})
    app.control.broadcast("add_consumer", arguments={"queue": "odd", "exchange_type": "nope"})
    app.control.broadcast("add_consumer", arguments={"queue": "odd", "exchange": {"a": 1}})
    app.control.broadcast("add_consumer", arguments={"queue": "right"})
    note.apply_async(("right",), queue="right")
    eventually(lambda: ledger(session) == ["right"] or worker.has_ended)
    assert not worker.has_ended, worker.log
    (active,) = app.control.inspect(timeout=5).active_queues().values()
    assert {queue["name"] for queue in active} == {"celery", "right"}


# -- what Redis takes -----------------------------------------------------------------------------


class Lazy:
    """As a lazy translation of Django's."""

    def __json__(self) -> str:
        return "lazy"


HEADERS = {
    "date": datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC),
    "price": Decimal("1.10"),
    "bytes": b"x",
    "binary": b"\xff",
    "uuid": uuid.UUID(int=5),
    "half": "\ud83e",
    "lazy": Lazy(),
}


def test_headers_and_properties_arrive_as_they_were_sent(
    connect: Callable[..., Connection],
) -> None:
    connection = connect()
    with connection.Producer() as producer:
        options = {"headers": HEADERS, "message_id": uuid.UUID(int=7), "signal": Signal()}
        producer.publish("x", routing_key="q", **options)
        with pytest.raises(TypeError):
            producer.publish("x", routing_key="q", headers={"signal": Signal()})
    message = Queue("q")(connection.default_channel).get()
    assert message.headers == {**HEADERS, "lazy": "lazy"}
    assert message.properties["message_id"] == uuid.UUID(int=7)
    assert "signal" not in message.properties
    message.ack()


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_a_task_may_have_what_kombu_can_write(
    session: Session, start_worker: Callable[..., Worker], pool: str
) -> None:
    task_id = uuid.uuid4()
    note.apply_async(("\ud83e",), headers=HEADERS, task_id=task_id)
    assert session.value("SELECT task_id FROM jobs") == str(task_id)
    signature = note.s("stamped")
    signature.stamp(stamped=HEADERS["date"], other=uuid.UUID(int=9))
    signature.apply_async()
    start_worker("--pool", pool)
    eventually(lambda: sorted(ledger(session)) == ["\\ud83e", "stamped"])
    eventually(lambda: session.query("SELECT id, reason FROM jobs") == [])
