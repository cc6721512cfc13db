"""What happens when a lock is lost while its task runs."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from celery_mysqllock import LockLost
from celery_mysqllock.tasks import lock_acquired, lock_lost, lock_released

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Task

    Make = Callable[..., Task]


class Oops(Exception):
    pass


def lose(task: Task) -> None:
    """Take the lock away from the running task, as ``reset()`` elsewhere does."""
    lock = task.lock_for()

    def reset() -> None:
        time.sleep(0.05)  # lets the body return from the start of this thread
        lock.reset()

    threading.Thread(target=reset).start()


def test_lock_lost_is_raised_in_a_blocking_call_of_the_main_thread(make: Make) -> None:
    def body() -> None:
        lose(task)
        time.sleep(60)
        pytest.fail("it was not interrupted")

    task = make(body, {})
    with pytest.raises(LockLost, match=rf"Task {task.name}\[None\] has lost the lock"):
        task()
    assert not task.lock_for().locked()


def test_lock_lost_is_raised_in_another_thread(make: Make) -> None:
    def body() -> None:
        lose(task)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            time.sleep(0.001)

    def run() -> None:
        with pytest.raises(LockLost):
            task()
        ended.set()

    ended = threading.Event()
    task = make(body, {})
    threading.Thread(target=run).start()
    assert ended.wait(30)


def test_a_body_may_catch_it_and_clean_up(make_one: Make) -> None:
    def body() -> str:
        lose(task)
        try:
            time.sleep(60)
        except LockLost:
            return "cleaned up"
        return "not interrupted"

    task = make_one(body, {})
    with pytest.raises(LockLost):  # it did not hold the lock to its end
        task()


def test_log_lets_the_body_go_on(make_one: Make, caplog: pytest.LogCaptureFixture) -> None:
    def body() -> str:
        lost = threading.Event()

        def see(**_: object) -> None:
            lost.set()

        lock_lost.connect(see)
        lose(task)
        assert lost.wait(30)
        return "went on"

    task = make_one(body, {"on_lost": "log"})
    with caplog.at_level(logging.ERROR, "celery_mysqllock.tasks"):
        assert task() == "went on"
    [line] = [r.getMessage() for r in caplog.records if r.name == "celery_mysqllock.tasks.loss"]
    assert line.startswith(f"Task {task.name}[None] has lost the lock '{task.lock_for().name}'")
    assert line.endswith("the task goes on without it")


def test_the_signal_tells_of_it_once(make_one: Make) -> None:
    told: list[dict[str, Any]] = []
    released: list[dict[str, Any]] = []

    def see(**arguments: Any) -> None:
        told.append(arguments)

    def see_released(**arguments: Any) -> None:
        released.append(arguments)

    def body() -> None:
        lose(task)
        time.sleep(60)
        pytest.fail("it was not interrupted")

    task = make_one(body, {})
    lock_lost.connect(see)
    lock_released.connect(see_released)
    with pytest.raises(LockLost):
        task()
    [arguments] = told
    assert arguments["sender"].name == task.name
    assert arguments["name"] == task.lock_for().name
    assert arguments["held"] > 0
    assert released == []


def test_the_bodys_own_error_is_the_one_to_be_seen(make_one: Make) -> None:
    def body() -> None:
        try:
            lose(task)
            time.sleep(60)
        except LockLost:
            raise Oops from None

    task = make_one(body, {})
    with pytest.raises(Oops):
        task()


def test_a_body_does_not_begin_without_the_lock(make: Make, refuse: Callable[..., None]) -> None:
    """It is lost after it was acquired and before the body begins."""

    def lose_it(**_: object) -> None:
        assert task.lock_for().reset()
        assert lost.wait(30)

    def see(**_: object) -> None:
        lost.set()

    lost = threading.Event()
    lock_acquired.connect(lose_it)
    lock_lost.connect(see)
    task = make(refuse, {"on_lost": "log"})
    with pytest.raises(LockLost):
        task()


_TERMINATE = """
import logging, threading, time
from celery import Celery
from celery_mysqllock import single_instance
logging.basicConfig()
app = Celery()
app.conf.mysqllock_url = "memory://"

@app.task
@single_instance(on_lost="terminate")
def body():
    threading.Thread(target=body.lock_for().reset).start()
    try:
        time.sleep(60)
    finally:
        print("an exception came")

body()
"""


def test_terminate_kills_the_process() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _TERMINATE], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (-9, ""), done.stderr
    assert "the process ends now" in done.stderr
