"""What only informs people decides no task: receivers of signals, logs, who the holder is."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from celery_mysqllock import LockLost, OtherInstanceError
from celery_mysqllock.exceptions import ConnectionLost
from celery_mysqllock.locks import MemoryLock
from celery_mysqllock.tasks import lock_acquired, lock_conflict, lock_lost, lock_released

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery import Task

    Make = Callable[..., Task]


class _Broken(logging.Filter):
    """A filter of a program's that fails."""

    def filter(self, record: logging.LogRecord) -> bool:
        raise RuntimeError(record.getMessage())


def _fail(**_: Any) -> None:
    raise RuntimeError("broken")


@pytest.fixture(autouse=True, params=["signals", "logs"])
def _broken(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each receiver fails, or each log does."""
    signals = (lock_acquired, lock_conflict, lock_lost, lock_released)
    loggers = [
        logging.getLogger(f"celery_mysqllock.tasks.{n}")
        for n in ("locked_call", "conflict", "loss")
    ]
    broken, before = _Broken(), [logger.level for logger in loggers]
    if request.param == "signals":
        for signal in signals:
            signal.connect(_fail)
    else:
        for logger in loggers:
            logger.addFilter(broken)
            logger.setLevel(logging.DEBUG)
    yield
    for signal in signals:
        signal.disconnect(_fail)
    for logger, level in zip(loggers, before, strict=True):
        logger.removeFilter(broken)
        logger.setLevel(level)


def test_a_call_runs_and_gives_its_lock_back(make_one: Make, ran: Callable[..., str]) -> None:
    task = make_one(ran, {})
    assert task() == "ran"
    assert not task.lock_for().locked()


@pytest.mark.parametrize("tells", [True, False])
def test_a_conflict_is_answered_as_the_task_says(
    tells: bool, make_one: Make, refuse: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: MemoryLock) -> None:
        raise ConnectionLost("nobody can say")

    skipping = make_one(refuse, {"on_conflict": "skip", "skip_result": "skipped"})
    raising = make_one(refuse, {"key": "another"})
    with skipping.lock_for(), raising.lock_for():
        if not tells:
            monkeypatch.setattr(MemoryLock, "holder", fail)
        assert skipping() == "skipped"
        with pytest.raises(OtherInstanceError):
            raising()


def test_a_loss_is_raised_in_the_body(make_one: Make) -> None:
    def body() -> None:
        threading.Thread(target=task.lock_for().reset).start()
        time.sleep(60)
        pytest.fail("it was not interrupted")

    task = make_one(body, {})
    with pytest.raises(LockLost):
        task()
    assert not task.lock_for().locked()
