"""The end of a worker, in each pool: warm, cold, and killed."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.tasks.cases import LONG, POOLS, Cases
from tests.waiting import eventually

if TYPE_CHECKING:
    from types import ModuleType


@pytest.mark.parametrize("pool", POOLS)
def test_a_warm_shutdown_lets_the_task_end_with_its_lock(
    application: ModuleType, start: Any, pool: str
) -> None:
    cases, worker = Cases(application, pool), start(pool)
    result = cases.send("below.works")
    cases.noted(result, "begin")
    worker.send(signal.SIGTERM)
    eventually(lambda: "Warm shutdown" in worker.text(), LONG)
    assert not cases.is_free("below.works")
    cases.let_go(result)
    worker.wait()
    assert cases.notes(result) == ["begin", "end"]
    assert cases.is_free("below.works")


@pytest.mark.parametrize("pool", POOLS)
def test_a_cold_shutdown_frees_the_lock(application: ModuleType, start: Any, pool: str) -> None:
    """Whether it ends the body or waits for it is up to the pool."""
    cases, worker = Cases(application, pool), start(pool)
    result = cases.send("below.works")
    cases.noted(result, "begin")
    worker.send(signal.SIGQUIT)
    eventually(lambda: "Hitting Ctrl+C again" in worker.text(), LONG)
    cases.let_go(result)
    worker.wait()
    assert cases.is_free("below.works")


@pytest.mark.parametrize("pool", POOLS)
def test_a_killed_process_frees_the_lock(application: ModuleType, start: Any, pool: str) -> None:
    cases, worker = Cases(application, pool), start(pool)
    result = cases.send("below.tells_its_process")
    cases.noted(result, "begin")
    os.kill(int(cases.notes(result)[0].removeprefix("pid-")), signal.SIGKILL)
    eventually(lambda: cases.is_free("below.tells_its_process"), LONG)
    worker.stop()
