"""Tasks with a lock in real workers of each pool, on a real server."""

from __future__ import annotations

import itertools
import json
import os
import signal
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery import chain, chord, group
from celery.exceptions import SoftTimeLimitExceeded, TaskRevokedError

from celery_mysqllock import LockLost, OtherInstanceError
from tests.tasks.worker import Worker
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from celery import Task
    from celery.result import AsyncResult

    from celery_mysqllock.devserver import DevServer, GivenServer
    from celery_mysqllock.locks import MemoryLock, MySQLLock

POOLS = ("prefork", "solo", "threads", "gevent")
WAYS = ("below", "above", "base", "unbound", "shared", "class")
# The cases that take longer run in these two only: they end in the same code.
TWO_WAYS = ("below", "base")
LONG = 60.0


@pytest.fixture(scope="session")
def settings(server: DevServer | GivenServer, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the application is configured with, here and in the workers."""
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "results").mkdir()
    return {"folder": str(folder), "url": server.create_database()}


@pytest.fixture(scope="session")
def application(settings: Any) -> Iterator[ModuleType]:
    """The module of the application; it configures itself from the environment, as in a worker."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TASKS_TEST_SETTINGS", json.dumps(settings))
        from tests.tasks import app  # noqa: PLC0415 - needs the environment

        yield app


@pytest.fixture(scope="session")
def start(settings: Any, application: ModuleType) -> Any:
    """Starts a worker of a pool."""
    environment = {"TASKS_TEST_SETTINGS": json.dumps(settings)}
    return lambda pool: Worker(pool, application.FOLDER, environment).start()


@pytest.fixture(scope="module", params=POOLS)
def worker(request: pytest.FixtureRequest, start: Any) -> Iterator[Worker]:
    """One worker of each pool, for all of this module's cases."""
    running = start(request.param)
    yield running
    running.stop()


class Cases:
    """Sends cases to a worker and looks at what becomes of them."""

    def __init__(self, application: ModuleType, pool: str) -> None:
        self.app = application.app
        self._module = application
        self.pool = pool
        self.key = uuid4().hex

    def task(self, name: str) -> Task:
        return self.app.tasks[name]

    def signature(self, name: str, *, key: str | None = None) -> Any:
        return self.task(name).s(key or self.key).set(queue=self.pool)

    def send(self, name: str, **options: Any) -> AsyncResult:
        return self.signature(name).apply_async(**options)

    def lock(self, name: str, *, key: str | None = None) -> MySQLLock | MemoryLock:
        lock: MySQLLock | MemoryLock = self.task(name).lock_for(key or self.key)
        return lock

    def is_free(self, name: str) -> bool:
        return not self.lock(name).locked()

    def notes(self, result: AsyncResult) -> list[str]:
        return [what for what, _ in self._module.notes(result.id)]

    def times(self, result: AsyncResult) -> list[float]:
        return [when for _, when in self._module.notes(result.id)]

    def noted(self, result: AsyncResult, what: str, count: int = 1) -> None:
        """Wait until the task has come so far."""
        eventually(lambda: self.notes(result).count(what) >= count, LONG, f"the note {what}")

    def let_go(self, result: AsyncResult) -> None:
        """Open the gate at which the task waits."""
        self._module.gate(result.id).touch()


@pytest.fixture
def cases(application: ModuleType, worker: Worker) -> Cases:
    return Cases(application, worker.pool)


def only(worker: Worker, *pools: str) -> None:
    """Skip the test where Celery itself has no such thing."""
    if worker.pool not in pools:
        pytest.skip(f"Celery's {worker.pool} pool does not do this")


# -- every way to give a task its lock ------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", ["works", "works_late"])
def test_the_lock_is_held_to_the_end_and_free_afterwards(cases: Cases, way: str, case: str) -> None:
    name = f"{way}.{case}"
    result = cases.send(name)
    cases.noted(result, "begin")
    assert not cases.lock(name).acquire()
    holder = cases.lock(name).holder()
    assert holder is not None
    cases.let_go(result)
    assert result.get(LONG, interval=0.02) == cases.key
    assert cases.notes(result) == ["begin", "end"]
    assert cases.is_free(name)


@pytest.mark.parametrize("way", WAYS)
def test_a_conflict_fails_with_the_holder(cases: Cases, way: str) -> None:
    name = f"{way}.quick"
    with cases.lock(name):
        result = cases.send(name)
        with pytest.raises(OtherInstanceError, match=f"task {name} is running.*held by"):
            result.get(LONG, interval=0.02)
        assert cases.notes(result) == []
    assert cases.is_free(name)


@pytest.mark.parametrize("way", WAYS)
def test_a_conflict_is_not_retried_by_autoretry(cases: Cases, way: str) -> None:
    name = f"{way}.quick_with_autoretry"
    with cases.lock(name):
        result = cases.send(name)
        with pytest.raises(OtherInstanceError):
            result.get(LONG, interval=0.02)
        assert result.state == "FAILURE"


@pytest.mark.parametrize("way", WAYS)
def test_a_skipped_member_lets_its_chord_complete(cases: Cases, way: str) -> None:
    name = f"{way}.skips"
    free = cases.signature(f"{way}.quick", key="free")
    total = cases.task("total").s().set(queue=cases.pool)
    cases.app.conf.task_default_queue = cases.pool  # for celery.chord_unlock
    with cases.lock(name):
        result = chord([cases.signature(name), free], total).apply_async()
        assert result.get(LONG, interval=0.02) == "skipped free"


@pytest.mark.parametrize("way", WAYS)
def test_a_conflict_comes_again_without_counting_as_a_retry(cases: Cases, way: str) -> None:
    """The task's ``max_retries`` is 0."""
    name = f"{way}.comes_again"
    with cases.lock(name):
        result = cases.send(name, headers={"mine": "kept"})
        eventually(lambda: result.state == "RETRY", LONG)
        assert isinstance(result.result, OtherInstanceError)
        assert cases.notes(result) == []
    assert result.get(LONG, interval=0.02) == cases.key
    assert cases.is_free(name)


@pytest.mark.parametrize("way", WAYS)
def test_a_retry_runs_after_the_attempt_that_sent_it(cases: Cases, way: str) -> None:
    name = f"{way}.retries"
    result = cases.send(name)
    assert result.get(LONG, interval=0.02) == cases.key
    assert cases.notes(result) == ["begin", "end", "begin"]
    assert cases.is_free(name)


@pytest.mark.parametrize("way", WAYS)
def test_autoretry_runs_the_body_again(cases: Cases, way: str) -> None:
    name = f"{way}.autoretries"
    result = cases.send(name)
    assert result.get(LONG, interval=0.02) == cases.key
    assert cases.notes(result) == ["begin", "begin"]
    assert cases.is_free(name)


@pytest.mark.parametrize("way", WAYS)
def test_an_error_frees_the_lock(cases: Cases, way: str) -> None:
    name = f"{way}.fails"
    with pytest.raises(ValueError, match=cases.key):
        cases.send(name).get(LONG, interval=0.02)
    assert cases.is_free(name)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", ["ignores", "rejects"])
def test_ignore_and_reject_free_the_lock(cases: Cases, way: str, case: str) -> None:
    name = f"{way}.{case}"
    result = cases.send(name)
    cases.noted(result, "begin")
    eventually(lambda: cases.is_free(name), LONG)


@pytest.mark.parametrize("way", WAYS)
def test_a_rejected_task_that_is_requeued_runs_again(cases: Cases, way: str) -> None:
    name = f"{way}.rejects_once"
    result = cases.send(name)
    assert result.get(LONG, interval=0.02) == cases.key
    assert cases.notes(result) == ["begin", "again"]
    assert cases.is_free(name)


@pytest.mark.parametrize("way", WAYS)
def test_a_nested_call_does_not_wait_for_itself(cases: Cases, way: str) -> None:
    name = f"{way}.calls_itself"
    assert cases.send(name).get(LONG, interval=0.02) == [cases.key, cases.key]
    assert cases.is_free(name)


@pytest.mark.parametrize("way", WAYS)
def test_a_loss_is_raised_in_the_body_at_once(cases: Cases, worker: Worker, way: str) -> None:
    # Python cannot end a blocking call of a thread.
    name = f"{way}.computes" if worker.pool == "threads" else f"{way}.sleeps"
    result = cases.send(name)
    cases.noted(result, "begin")
    assert cases.lock(name).reset()
    with pytest.raises(LockLost):
        result.get(LONG, interval=0.02)
    assert cases.notes(result) == ["begin", "lock-lost"]
    assert cases.is_free(name)


# -- two ways -------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", TWO_WAYS)
def test_a_group_runs_one_at_a_time(cases: Cases, way: str) -> None:
    name = f"{way}.in_line"
    result = group(cases.signature(name) for _ in range(6)).apply_async()
    assert result.get(LONG, interval=0.02) == [cases.key] * 6
    spans = sorted(cases.times(child) for child in result.results)
    assert all(one[1] <= next_[0] for one, next_ in itertools.pairwise(spans))
    assert cases.is_free(name)


@pytest.mark.parametrize("way", TWO_WAYS)
def test_the_tasks_of_a_chain_share_a_lock(cases: Cases, way: str) -> None:
    name = f"{way}.quick"
    one = cases.signature(name)
    result = chain(one, *(cases.task(name).s().set(queue=cases.pool) for _ in range(2)))()
    assert result.get(LONG, interval=0.02) == cases.key
    assert cases.is_free(name)


@pytest.mark.parametrize("way", TWO_WAYS)
def test_a_body_goes_on_after_a_loss_when_it_is_told_to(
    cases: Cases, worker: Worker, way: str
) -> None:
    name = f"{way}.loses_and_goes_on"
    result = cases.send(name)
    cases.noted(result, "begin")
    assert cases.lock(name).reset()
    eventually(
        lambda: f"Task {name}[{result.id}] has lost the lock" in worker.text(), LONG, "the log line"
    )
    cases.let_go(result)
    assert result.get(LONG, interval=0.02) == cases.key


# -- what only some pools can do ------------------------------------------------------------------


@pytest.mark.parametrize("way", TWO_WAYS)
def test_a_loss_ends_the_process_when_it_is_told_to(cases: Cases, worker: Worker, way: str) -> None:
    only(worker, "prefork")
    name = f"{way}.loses_and_dies"
    result = cases.send(name)
    cases.noted(result, "begin")
    assert cases.lock(name).reset()
    with pytest.raises(WorkerLostError):
        result.get(LONG, interval=0.02)
    assert cases.is_free(name)


@pytest.mark.parametrize("way", TWO_WAYS)
def test_a_soft_time_limit_frees_the_lock_when_the_body_has_ended(
    cases: Cases, worker: Worker, way: str
) -> None:
    only(worker, "prefork")
    name = f"{way}.sleeps_for_a_second"
    result = cases.send(name)
    with pytest.raises(SoftTimeLimitExceeded):
        result.get(LONG, interval=0.02)
    assert cases.notes(result) == ["begin", "soft-time-limit"]
    assert cases.is_free(name)


@pytest.mark.parametrize("way", TWO_WAYS)
def test_a_hard_time_limit_frees_the_lock(cases: Cases, worker: Worker, way: str) -> None:
    only(worker, "prefork", "gevent")
    name = f"{way}.is_killed_after_a_second"
    result = cases.send(name)
    with pytest.raises(TimeLimitExceeded):
        result.get(LONG, interval=0.02)
    eventually(lambda: cases.is_free(name), LONG)


@pytest.mark.parametrize("way", TWO_WAYS)
def test_a_task_whose_process_was_killed_runs_again(cases: Cases, worker: Worker, way: str) -> None:
    only(worker, "prefork")
    name = f"{way}.dies_once"
    result = cases.send(name)
    assert result.get(LONG, interval=0.02) == cases.key
    assert cases.notes(result) == ["begin", "again"]
    assert cases.is_free(name)


@pytest.mark.parametrize("way", TWO_WAYS)
def test_a_revoked_task_frees_the_lock(cases: Cases, worker: Worker, way: str) -> None:
    only(worker, "prefork", "gevent")
    name = f"{way}.sleeps"
    result = cases.send(name)
    cases.noted(result, "begin")
    result.revoke(terminate=True)
    with pytest.raises(TaskRevokedError):
        result.get(LONG, interval=0.02)
    eventually(lambda: cases.is_free(name), LONG)


# -- the end of a worker --------------------------------------------------------------------------


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
