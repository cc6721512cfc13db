"""Tasks with a lock in real workers of each pool: the same however the lock was given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from celery import chord

from celery_mysqllock import LockLost, OtherInstanceError
from tests.tasks.cases import LONG
from tests.waiting import eventually

if TYPE_CHECKING:
    from tests.tasks.cases import Cases
    from tests.tasks.worker import Worker

WAYS = ("below", "base", "unbound", "shared", "class")


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
