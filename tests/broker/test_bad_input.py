"""Bad input and a server that cannot: a clear message, nothing lost, and the worker goes on."""

from __future__ import annotations

import base64
import json
import pickle
from typing import TYPE_CHECKING

import pytest

from tests.broker.app import note
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_mysqllock.mysql import Session
    from tests.broker.worker import Worker

StartWorker = "Callable[..., Worker]"
pytestmark = pytest.mark.usefixtures("producer_url")


def envelope(  # noqa: PLR0913 - each is a part of a row
    *,
    body: object = ((1, 2), {}, {}),
    encoding: str = "json",
    content_type: object = "application/json",
    content_encoding: str = "utf-8",
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
}


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_rows_that_cannot_be_read_are_kept_as_dead_and_the_worker_goes_on(
    session: Session, start_worker: Callable[..., Worker], pool: str
) -> None:
    for row, _ in BAD_ROWS.values():
        session.execute("INSERT INTO jobs (message) VALUES (%s)", (row,))
    worker = start_worker("--pool", pool, BROKER_OPTIONS='{"text_task": null}')
    note.delay("still here")
    eventually(lambda: ledger(session) == ["still here"] or worker.has_ended)
    assert not worker.has_ended, worker.log
    eventually(lambda: not session.query("SELECT 1 FROM jobs WHERE job_status <> 3"))
    reasons = [row[0] for row in session.query("SELECT reason FROM jobs ORDER BY id")]
    said = dict(zip(BAD_ROWS, reasons, strict=True))
    assert {
        what: said[what] for what, (_, part) in BAD_ROWS.items() if part not in said[what]
    } == {}


def test_a_task_of_an_envelope_without_an_id_runs(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    row = envelope(headers={"task": "note"}, body=[["ran"], {}, {}])
    session.execute("INSERT INTO jobs (message) VALUES (%s)", (row,))
    start_worker()
    eventually(lambda: ledger(session) == ["ran"])
