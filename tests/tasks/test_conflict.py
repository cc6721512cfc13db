"""What a task does when another instance has its lock."""

from __future__ import annotations

import pickle
import threading
from typing import TYPE_CHECKING, Any

import pytest
from celery.exceptions import Retry

from celery_mysqllock import OtherInstanceError
from celery_mysqllock.tasks import lock_conflict, locked_call

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery import Task

    from celery_mysqllock.locks import Holder

    Make = Callable[..., Task]


@pytest.fixture
def held() -> Iterator[Callable[..., Any]]:
    """Holds the lock of a call, as another instance would."""
    locks = []

    def hold(task: Task, *args: Any) -> Any:
        lock = task.lock_for(*args)
        assert lock.acquire()
        locks.append(lock)
        return lock

    yield hold
    for lock in locks:
        if lock.owned():
            lock.release()


def test_raise_tells_who_holds_the_lock(
    make_one: Make, refuse: Callable[..., None], held: Callable[..., Any]
) -> None:
    task = make_one(refuse, {})
    other = held(task)
    with pytest.raises(OtherInstanceError, match=task.name) as caught:
        task()
    assert caught.value.holder == other.holder()
    assert caught.value.holder is not None
    assert caught.value.name == other.name


def test_the_error_passes_between_processes_whole(
    make_one: Make, refuse: Callable[..., None], held: Callable[..., Any]
) -> None:
    task = make_one(refuse, {})
    held(task)
    with pytest.raises(OtherInstanceError) as caught:
        task()
    copy = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own
    assert str(copy) == str(caught.value)
    assert (copy.name, copy.holder) == (caught.value.name, caught.value.holder)


def test_skip_returns_the_skip_result(
    make_one: Make, refuse: Callable[..., None], held: Callable[..., Any]
) -> None:
    task = make_one(refuse, {"on_conflict": "skip", "skip_result": "skipped"})
    held(task)
    result = task.apply()
    assert (result.state, result.result) == ("SUCCESS", "skipped")


def test_a_callable_decides_with_task_and_holder(
    make_one: Make, refuse: Callable[..., None], held: Callable[..., Any]
) -> None:
    def decide(task: Task, holder: Holder) -> str:
        return f"{task.name} {task.request.id} {holder.note}"

    task = make_one(refuse, {"on_conflict": decide})
    held(task)
    assert task.apply(task_id="mine").get() == f"{task.name} mine None"


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize("on_conflict", ["retry", "queue"])
def test_retry_and_queue_raise_when_there_is_no_message(
    make_one: Make,
    refuse: Callable[..., None],
    held: Callable[..., Any],
    on_conflict: str,
    eager: bool,
) -> None:
    task = make_one(refuse, {"on_conflict": on_conflict})
    held(task)
    with pytest.raises(OtherInstanceError):
        task.apply().get() if eager else task()


def test_retry_sends_the_same_message_again(
    make_one: Make,
    refuse: Callable[..., None],
    held: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[tuple[Any, Any, dict[str, Any]]] = []
    lock = {"on_conflict": "retry", "retry_countdown": 40}
    task = make_one(refuse, lock, autoretry_for=(Exception,), max_retries=0)
    held(task)
    monkeypatch.setattr(
        task.app,
        "send_task",
        lambda _, args, kwargs, **options: sent.append((args, kwargs, options)),
    )
    request = {
        "id": "mine",
        "root_id": "root",
        "parent_id": "parent",
        "retries": 2,
        "headers": {"mine": 1},
        "group": "group",
        "group_index": 3,
        "chord": {"task": "chord"},
        "chain": [{"task": "next"}],
        "callbacks": [{"task": "callback"}],
        "errbacks": [{"task": "errback"}],
        "expires": "2090-01-01T00:00:00+00:00",
        "args": (1,),
        "kwargs": {"x": 2},
        "called_directly": False,
        "delivery_info": {"exchange": "", "routing_key": "elsewhere", "priority": 4},
    }
    task.push_request(**request)
    try:
        with pytest.raises(Retry) as caught:
            task.run(1, x=2)
    finally:
        task.pop_request()
    [(args, kwargs, options)] = sent
    assert (tuple(args), kwargs) == ((1,), {"x": 2})
    assert 30 <= options["countdown"] <= 50
    assert caught.value.when == options["countdown"]
    kept = {
        "task_id": "mine",
        "root_id": "root",
        "parent_id": "parent",
        "retries": 2,
        "headers": {"mine": 1},
        "group_id": "group",
        "group_index": 3,
        "chord": {"task": "chord"},
        "chain": [{"task": "next"}],
        "link": [{"task": "callback"}],
        "link_error": [{"task": "errback"}],
        "expires": "2090-01-01T00:00:00+00:00",
        "queue": "elsewhere",
        "priority": 4,
    }
    assert {name: options.get(name) for name in kept} == kept


def test_wait_waits_for_the_other_to_end(
    make_one: Make, ran: Callable[..., str], held: Callable[..., Any]
) -> None:
    task = make_one(ran, {"wait": None})
    other = held(task)
    results: list[str] = []
    waiting = threading.Thread(target=lambda: results.append(task()))
    waiting.start()
    assert not results
    other.release()
    waiting.join(30)
    assert results == ["ran"]


def test_wait_ends(make_one: Make, refuse: Callable[..., None], held: Callable[..., Any]) -> None:
    task = make_one(refuse, {"wait": 0.1})
    held(task)
    with pytest.raises(OtherInstanceError):
        task()


def test_a_limit_lets_as_many_run(
    make_one: Make, ran: Callable[..., str], held: Callable[..., Any]
) -> None:
    task = make_one(ran, {"limit": 2})
    first = held(task)
    assert task() == "ran"
    held(task)
    with pytest.raises(OtherInstanceError):
        task()
    first.release()
    assert task() == "ran"


@pytest.mark.parametrize(
    "request_",
    [{"id": "mine", "retries": 1}, {"id": "mine", "delivery_info": {"redelivered": True}}],
    ids=["retry", "redelivered"],
)
def test_a_task_waits_for_its_own_earlier_attempt(make_one: Make, request_: dict[str, Any]) -> None:
    """``self.retry(countdown=0)`` may arrive before the attempt that sent it has let go."""
    arrived = threading.Event()
    results: list[str] = []

    def body(self: Task) -> str:
        if not arrived.is_set():
            retry.start()
            assert arrived.wait(30)
        return "ran"

    def again() -> None:
        task.push_request(called_directly=False, **request_)
        results.append(task.run())

    def conflict_seen(**_: object) -> None:
        pytest.fail("it did not wait")

    task = make_one(body, {}, bind=True)
    retry = threading.Thread(target=again)
    lock_conflict.connect(conflict_seen)
    # The first attempt ends as soon as the second has begun to wait for it.
    wrapped = task.lock_for().__class__.acquire

    def acquire(lock: Any, wait: float | None = 0) -> bool:
        if wait == locked_call.GRACE:
            arrived.set()
        return bool(wrapped(lock, wait))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(task.lock_for().__class__, "acquire", acquire)
        assert task.apply(task_id="mine").get() == "ran"
        retry.join(30)
    assert results == ["ran"]
