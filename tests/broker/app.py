"""The app whose workers the broker's tests start; its tasks write what they did into a ledger."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import replace
from typing import Any

import pymysql
from celery import Celery
from celery.exceptions import Reject

import celery_mysqllock
import tests.broker.provoke  # noqa: F401 - fails where PROVOKE says so
from celery_mysqllock import single_instance
from celery_mysqllock.mysql import Address, Session
from tests.broker.callers import login

URL = os.environ.get("BROKER_URL", "mysql://nobody@localhost/nothing")
OPTIONS: dict[str, Any] = {
    "text_task": "text",
    "polling_interval": 0.2,
    "recovery_grace": 1.0,
    **json.loads(os.environ.get("BROKER_OPTIONS", "{}")),
}

app = Celery("tests", broker=URL)
app.conf.update(
    broker_transport_options=OPTIONS,
    broker_connection_retry_on_startup=True,
    result_backend=os.environ.get("RESULT_BACKEND"),
    task_ignore_result="RESULT_BACKEND" not in os.environ,
    **json.loads(os.environ.get("CELERY_SETTINGS", "{}")),
)


def write(entry: object) -> None:
    address = Address.parse(URL)
    ledger = f"`{address.database}`.ledger"
    # of another database, so that a test which kills all sessions of its own spares this one: the
    # entry may be there before the task has read the server's answer
    with Session(replace(address, database="information_schema")) as session:
        session.execute(f"CREATE TABLE IF NOT EXISTS {ledger} (entry VARCHAR(200), pid INT)")
        session.execute(
            f"INSERT INTO {ledger} VALUES (%s, %s)",  # noqa: S608 - our own database's name
            (str(entry), os.getppid()),
        )


@app.task(name="note")
def note(entry: object) -> None:
    # a half character has no place in a table
    write(entry.encode("utf-8", "backslashreplace").decode() if isinstance(entry, str) else entry)


@app.task(name="leave", acks_late=True)
def leave(kind: str) -> None:
    """End in a way that is no task's."""
    raise {"exit": SystemExit, "interrupt": KeyboardInterrupt}[kind](3)


@app.task(name="stamp")
def stamp(due: float) -> None:
    """Write how many seconds after it was due this began."""
    write(time.time() - due)


@app.task(name="add")
def add(a: int, b: int) -> int:
    return a + b


@app.task(name="retry_in_transaction", bind=True)
def retry_in_transaction(self: Any) -> None:
    """Send a task in a transaction that the first try leaves with ``retry``."""
    with (
        pymysql.connect(**login(URL)) as connection,
        celery_mysqllock.transaction(connection),
    ):
        note.delay(f"try {self.request.retries}")
        if not self.request.retries:
            raise self.retry(countdown=0)


@app.task(name="text")
def text(message: str) -> None:
    write(message)


@app.task(name="late", acks_late=True)
def late(entry: object, seconds: float = 0.0, ballast: str = "") -> None:
    write(f"begin {entry}")
    time.sleep(seconds)
    write(f"end {entry}")


@app.task(name="early")
def early(entry: object, seconds: float = 0.0) -> None:
    """As ``late``, but acknowledged when it begins."""
    write(f"begin {entry}")
    time.sleep(seconds)
    write(f"end {entry}")


@app.task(name="hang", bind=True, acks_late=True)
def hang(self: Any, entry: object) -> None:
    """Begin, and end only when it is delivered a second time."""
    _begin_and_hang(self.request.delivery_info["redelivered"], entry)


def _begin_and_hang(redelivered: bool, entry: object) -> None:
    write(f"{'again' if redelivered else 'begin'} {entry}")
    if not redelivered:
        time.sleep(600)


@app.task(name="fatal", bind=True, acks_late=True)
def fatal(self: Any) -> None:
    """Kill the worker, children and all."""
    info = self.request.properties["delivery_info"]
    write(f"redelivered {info['redelivered']} after {info['delivery_count']}")
    os.killpg(0, signal.SIGKILL)


@app.task(name="fall", acks_late=True, reject_on_worker_lost=True)
def fall() -> None:
    """Kill the pool's process that runs this."""
    write("fell")
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="give_back", acks_late=True)
def give_back(seconds: str | None = None) -> None:
    write("gave back")
    raise Reject("not today", requeue=True if seconds is None else float(seconds))


if "OLDER_RELEASE" not in os.environ:

    @app.task(name="newer")
    def newer() -> None:
        write("newer")


@app.task(name="refuse", bind=True, acks_late=True)
def refuse(self: Any) -> None:
    raise Reject("no thanks", requeue=False)


@app.task(name="once", acks_late=True)
@single_instance(unique="until_done", unique_on=["entry"], limit=None)
def once(entry: object, seconds: float = 0.0) -> None:
    write(f"begin {entry}")
    time.sleep(seconds)
    write(f"end {entry}")


@app.task(name="queue_once", acks_late=True)
@single_instance(unique="queued", unique_on=["entry"], limit=None)
def queue_once(entry: object, seconds: float = 0.0) -> None:
    write(f"begin {entry}")
    time.sleep(seconds)
    write(f"end {entry}")


@app.task(name="once_hang", bind=True, acks_late=True)
@single_instance(unique="until_done", unique_on=["entry"], limit=None)
def once_hang(self: Any, entry: object) -> None:
    _begin_and_hang(self.request.delivery_info["redelivered"], entry)


@app.task(name="once_refuse", acks_late=True)
@single_instance(unique="until_done", limit=None)
def once_refuse() -> None:
    raise Reject("no thanks", requeue=False)


@app.task(name="once_retry", bind=True, acks_late=True)
@single_instance(unique="until_done", unique_on=["entry"], limit=None)
def once_retry(self: Any, entry: object, retries: int, countdown: float) -> None:
    """Send itself again so often."""
    write(f"attempt {self.request.retries} of {entry}")
    if self.request.retries < retries:
        raise self.retry(countdown=countdown, max_retries=retries)


@app.task(name="broken", acks_late=True, acks_on_failure_or_timeout=False)
def broken(entry: object) -> None:
    """Fail until somebody has written "mended" into the ledger."""
    with Session(Address.parse(URL)) as session:
        is_mended = session.value("SELECT COUNT(*) FROM ledger WHERE entry = 'mended'")
    if not is_mended:
        raise ValueError(f"{entry} is broken")
    write(entry)


@app.task(name="ordered")
@single_instance(unique_on=["key"], on_conflict="queue", retry_countdown=1)
def ordered(key: str, number: int, seconds: float = 0.0) -> None:
    write(f"begin {key}/{number}")
    time.sleep(seconds)
    write(f"end {key}/{number}")


@app.task(name="clinging", bind=True)
@single_instance(unique_on=["key"], on_conflict="queue")
def clinging(self: Any, key: str, number: int) -> None:
    """As ``ordered``; but the job 1 ends only when it is delivered a second time."""
    write(f"begin {key}/{number}")
    if number == 1 and not self.request.delivery_info["redelivered"]:
        time.sleep(600)
    write(f"end {key}/{number}")


@app.task(name="ordered_once")
@single_instance(unique="queued", unique_on=["key"], on_conflict="queue")
def ordered_once(key: str, number: int, seconds: float = 0.0) -> None:
    write(f"begin {key}/{number}")
    time.sleep(seconds)
    write(f"end {key}/{number}")


@app.task(name="ordered_until_done")
@single_instance(unique="until_done", unique_on=["key"], on_conflict="queue")
def ordered_until_done(key: str) -> None:
    write(key)


@app.task(name="paired")
@single_instance(unique_on=["key"], on_conflict="queue", limit=2)
def paired(key: str, number: int, seconds: float = 0.0) -> None:
    write(f"begin {key}/{number}")
    time.sleep(seconds)
    write(f"end {key}/{number}")


@app.task(name="stumbling", bind=True, default_retry_delay=0)
@single_instance(unique_on=["key"], on_conflict="queue")
def stumbling(self: Any, key: str, number: int) -> None:
    """Send itself again, once."""
    write(f"{key}/{number}")
    if not self.request.retries:
        raise self.retry()


@app.task(name="hopeless", autoretry_for=(Exception,))
@single_instance(unique_on=["key"], on_conflict="queue", retry_countdown=1)
def hopeless(key: str, number: int) -> None:
    write(f"{key}/{number}")


@app.task(name="traced", bind=True, acks_late=True)
def traced(self: Any, seconds: float = 0.0) -> None:
    """Write the trace context that came with the message."""
    write(f"{self.request.get('traceparent')} {self.request.get('tracestate')}")
    if not self.request.delivery_info["redelivered"]:
        time.sleep(seconds)
