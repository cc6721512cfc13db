"""The application that the acceptance tests run in real workers.

Each case is a function here, and a task of that case in each of the ways to give a task its lock:
``below.sleeps`` has the decorator below ``@app.task``, ``base.sleeps`` the base class, and so on.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celery import Celery, Task, shared_task
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded

from celery_mysqllock import LockLost, SingleInstanceTask, single_instance
from celery_mysqllock.tasks import current_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Body = Callable[..., Any]

SETTINGS = json.loads(os.environ["TASKS_TEST_SETTINGS"])

#: Where the tasks and the tests leave each other notes.
FOLDER = Path(SETTINGS["folder"])

app = Celery("tests")
app.conf.update(
    broker_url=SETTINGS["url"],
    broker_transport_options={"create_table": True},
    mysqllock_session_timeout=6,
    result_backend=f"file://{FOLDER}/results",
    result_chord_retry_interval=0.1,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
)


def note(task_id: str, what: str) -> None:
    """Leave a note that the task has come so far."""
    with (FOLDER / "notes").open("a") as notes:
        notes.write(f"{task_id} {what} {time.monotonic()}\n")


def notes(task_id: str) -> Iterator[tuple[str, float]]:
    """The notes of a task, in order, with the time of each."""
    path = FOLDER / "notes"
    for line in path.read_text().splitlines() if path.exists() else ():
        who, what, when = line.split()
        if who == task_id:
            yield what, float(when)


def is_first(task_id: str) -> bool:
    """Whether the task has left no note yet."""
    return not list(notes(task_id))


def gate(name: str) -> Path:
    """The file that opens a gate at which a task waits."""
    return FOLDER / f"gate-{name}"


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until it is so, a minute at most."""
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.01)


def works(self: Task, key: str) -> str:
    """Waits at the gate with the task's id."""
    note(self.request.id, "begin")
    wait_until(gate(self.request.id).exists)
    current_lock().check()
    note(self.request.id, "end")
    return key


def goes_on(self: Task, key: str) -> str:
    """Waits at the gate and does not look at its lock."""
    note(self.request.id, "begin")
    wait_until(gate(self.request.id).exists)
    return key


def quick(self: Task, key: str) -> str:
    note(self.request.id, "begin")
    current_lock().check()
    note(self.request.id, "end")
    return key


def fails(self: Task, key: str) -> None:
    raise ValueError(key)


def ignores(self: Task, key: str) -> None:
    note(self.request.id, "begin")
    raise Ignore(key)


def rejects(self: Task, key: str) -> None:
    note(self.request.id, "begin")
    raise Reject(key, requeue=False)


def rejects_once(self: Task, key: str) -> str:
    if is_first(self.request.id):
        note(self.request.id, "begin")
    else:
        note(self.request.id, "again")
        return key
    raise Reject(key, requeue=True)


def _await_first_attempt(task: Task) -> None:
    """Wait until its state is stored, which else might overwrite the result of the second."""
    wait_until(lambda: app.AsyncResult(task.request.id).state == "RETRY")


def retries(self: Task, key: str) -> str:
    """Retries at once, and takes its time to end, with the lock."""
    note(self.request.id, "begin")
    if self.request.retries:
        _await_first_attempt(self)
        return key
    try:
        raise self.retry(countdown=0)
    finally:
        time.sleep(0.3)
        current_lock().check()
        note(self.request.id, "end")


def autoretries(self: Task, key: str) -> str:
    note(self.request.id, "begin")
    if self.request.retries:
        _await_first_attempt(self)
        return key
    raise ValueError(key)


def calls_itself(self: Task, key: str) -> list[str]:
    inner = []
    if is_first(key):
        note(key, "begin")
        inner = self(key)
    current_lock().check()
    return [key, *inner]


def sleeps(self: Task, key: str) -> str:
    """Is in a blocking call until an exception ends it."""
    note(self.request.id, "begin")
    try:
        time.sleep(30)
    except SoftTimeLimitExceeded:
        current_lock().check()
        note(self.request.id, "soft-time-limit")
        raise
    except LockLost:
        note(self.request.id, "lock-lost")
        raise
    return key


def computes(self: Task, key: str) -> str:
    """Runs Python code until an exception ends it."""
    note(self.request.id, "begin")
    end = time.monotonic() + 30
    try:
        while time.monotonic() < end:
            time.sleep(0.001)
    except LockLost:
        note(self.request.id, "lock-lost")
        raise
    return key


def tells_its_process(self: Task, key: str) -> str:
    note(self.request.id, f"pid-{os.getpid()}")
    return works(self, key)


def dies_once(self: Task, key: str) -> str:
    if is_first(self.request.id):
        note(self.request.id, "begin")
        os.kill(os.getpid(), signal.SIGKILL)
    note(self.request.id, "again")
    return key


#: Each case: its body, the options of the lock, the options of the task.
CASES: dict[str, tuple[Body, dict[str, Any], dict[str, Any]]] = {
    "works": (works, {}, {}),
    "works_late": (works, {}, {"acks_late": True}),
    "quick": (quick, {}, {}),
    "quick_with_autoretry": (quick, {}, {"autoretry_for": (Exception,), "retry_backoff": True}),
    "fails": (fails, {}, {}),
    "ignores": (ignores, {}, {}),
    "rejects": (rejects, {}, {"acks_late": True}),
    "rejects_once": (rejects_once, {}, {"acks_late": True}),
    "retries": (retries, {}, {}),
    "autoretries": (
        autoretries,
        {},
        {
            "autoretry_for": (ValueError,),
            "default_retry_delay": 0,
            "retry_kwargs": {"countdown": 0},
        },
    ),
    "calls_itself": (calls_itself, {"wait": None}, {}),
    "skips": (works, {"on_conflict": "skip", "skip_result": "skipped"}, {}),
    "comes_again": (
        quick,
        {"on_conflict": "retry", "retry_countdown": 0.4},
        {"max_retries": 0, "autoretry_for": (Exception,)},
    ),
    "in_line": (quick, {"wait": None}, {}),
    "sleeps": (sleeps, {}, {}),
    "sleeps_for_a_second": (sleeps, {}, {"soft_time_limit": 1, "time_limit": 20}),
    "is_killed_after_a_second": (sleeps, {}, {"time_limit": 1}),
    "computes": (computes, {}, {}),
    "loses_and_goes_on": (goes_on, {"on_lost": "log"}, {}),
    "loses_and_dies": (sleeps, {"on_lost": "terminate"}, {}),
    "tells_its_process": (tells_its_process, {}, {}),
    "dies_once": (dies_once, {}, {"acks_late": True, "reject_on_worker_lost": True}),
}


def _below(case: str, body: Body, lock: dict[str, Any], **options: Any) -> None:
    app.task(name=f"below.{case}", bind=True, **options)(single_instance(**lock)(body))


def _base(case: str, body: Body, lock: dict[str, Any], **options: Any) -> None:
    app.task(name=f"base.{case}", bind=True, base=SingleInstanceTask, lock=lock, **options)(body)


def _unbound(case: str, body: Body, lock: dict[str, Any], **options: Any) -> None:
    def run(key: str) -> Any:
        return body(app.tasks[f"unbound.{case}"], key)

    app.task(name=f"unbound.{case}", **options)(single_instance(**lock)(run))


def _shared(case: str, body: Body, lock: dict[str, Any], **options: Any) -> None:
    shared_task(name=f"shared.{case}", bind=True, **options)(single_instance(**lock)(body))


def _class(case: str, body: Body, lock: dict[str, Any], **options: Any) -> None:
    attributes = {"name": f"class.{case}", "run": body, "lock": lock, **options}
    app.register_task(type(case, (SingleInstanceTask,), attributes)())


#: Each way to give a task its lock.
WAYS = {
    "below": _below,
    "base": _base,
    "unbound": _unbound,
    "shared": _shared,
    "class": _class,
}

for make in WAYS.values():
    for case, (body, lock, options) in CASES.items():
        make(case, body, {"include_args": True, **lock}, **options)


@app.task(name="total")
def total(results: list[str]) -> str:
    return " ".join(results)


@app.task(name="plain")
def plain(result: str) -> str:
    return result
