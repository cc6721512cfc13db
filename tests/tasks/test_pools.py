"""Tasks with a lock in real workers: groups, losses, time limits, revokes and dying processes.

Two ways to give the lock are enough here: they all end in the same code.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery import chain, group
from celery.exceptions import SoftTimeLimitExceeded, TaskRevokedError

from tests.tasks.cases import LONG
from tests.waiting import eventually

if TYPE_CHECKING:
    from tests.tasks.cases import Cases
    from tests.tasks.worker import Worker

TWO_WAYS = ("below", "base")


def only(worker: Worker, *pools: str) -> None:
    """Skip the test where Celery itself has no such thing."""
    if worker.pool not in pools:
        pytest.skip(f"Celery's {worker.pool} pool does not do this")


@pytest.mark.parametrize("way", TWO_WAYS)
def test_a_group_runs_one_at_a_time(cases: Cases, way: str) -> None:
    name = f"{way}.in_line"
    result = group(cases.signature(name) for _ in range(6)).apply_async()
    assert result.get(LONG, interval=0.02) == [cases.key] * 6
    spans = sorted(cases.times(child) for child in result.results)
    assert all(one[1] <= next_[0] for one, next_ in pairwise(spans))
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
