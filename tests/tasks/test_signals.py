"""The signals and log lines of a task's lock."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from celery_mysqllock import OtherInstanceError, signals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery import Task

    Make = Callable[..., Task]


@pytest.fixture
def sent() -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """The signals in the order in which they are sent."""
    seen: list[tuple[str, dict[str, Any]]] = []

    def see(signal: Any, **arguments: Any) -> None:
        seen.append((signal.name, arguments))

    ours = [signals.lock_acquired, signals.lock_conflict, signals.lock_lost, signals.lock_released]
    for signal in ours:
        signal.connect(see)
    yield seen
    for signal in ours:
        signal.disconnect(see)


def test_a_call_acquires_and_releases(make: Make, sent: list[tuple[str, dict[str, Any]]]) -> None:
    def body() -> None:
        sent.append(("body", {}))

    task = make(body, {})
    task.apply(task_id="mine").get()
    assert [name for name, _ in sent] == ["lock_acquired", "body", "lock_released"]
    acquired, released = sent[0][1], sent[2][1]
    assert acquired["sender"].name == task.name
    assert acquired["name"] == task.lock_for().name
    assert acquired["task_id"] == "mine"
    assert acquired["waited"] >= 0
    assert released["waited"] == acquired["waited"]
    assert released["held"] > 0


def test_a_conflict_is_told_with_its_holder(
    make_one: Make, refuse: Callable[..., None], sent: list[tuple[str, dict[str, Any]]]
) -> None:
    task = make_one(refuse, {})
    other = task.lock_for()
    assert other.acquire()
    with pytest.raises(OtherInstanceError):
        task()
    [(name, arguments)] = sent
    assert name == "lock_conflict"
    assert arguments["holder"] == other.holder()
    assert arguments["task_id"] is None
    other.release()


def test_the_log_names_task_id_and_lock(
    make_one: Make, refuse: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    task = make_one(refuse, {"on_conflict": "skip"})
    other = task.lock_for()
    assert other.acquire()
    with caplog.at_level(logging.INFO, "celery_mysqllock"):
        task.apply(task_id="mine")
    other.release()
    [line] = [r.getMessage() for r in caplog.records if r.name == "celery_mysqllock.tasks.conflict"]
    assert line.startswith(f"Task {task.name}[mine] did not get the lock '{other.name}'")


def test_the_log_has_the_life_of_a_lock_at_debug_level(
    make_one: Make, ran: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    task = make_one(ran, {})
    with caplog.at_level(logging.DEBUG, "celery_mysqllock"):
        task.apply(task_id="mine")
    lines = [r.getMessage() for r in caplog.records if r.name.endswith("tasks.locked_call")]
    name = task.lock_for().name
    assert lines[0].startswith(f"Task {task.name}[mine] has the lock '{name}'")
    assert lines[1].startswith(f"Task {task.name}[mine] has released the lock '{name}'")
