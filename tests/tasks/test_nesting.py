"""A call within a body that holds the same lock is a part of that body."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from celery_mysqllock import OtherInstanceError
from celery_mysqllock.exceptions import LockNotOwned
from celery_mysqllock.tasks import current_lock

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Task

    Make = Callable[..., Task]


@pytest.mark.parametrize("wait", [0, None])
def test_a_direct_call_of_the_same_task_is_a_part_of_it(make: Make, wait: float | None) -> None:
    def body(depth: int) -> list[bool]:
        return [task.lock_for(depth).locked(), *(task(depth - 1) if depth else [])]

    task = make(body, {"wait": wait})
    assert task(2) == [True, True, True]
    assert not task.lock_for(2).locked()


def test_an_eager_call_of_a_task_with_the_same_key_is_a_part_of_it(
    make: Make, ran: Callable[..., str]
) -> None:
    inner = make(ran, {"key": "shared"})

    def body() -> Any:
        result = inner.apply().get(disable_sync_subtasks=False)
        assert outer.lock_for().locked()
        return result

    outer = make(body, {"key": "shared"})
    assert outer() == "ran"


def test_a_call_with_another_key_takes_a_lock_of_its_own(make: Make) -> None:
    def body(depth: int) -> list[bool]:
        if not depth:
            return [task.lock_for(x).locked() for x in (0, 1)]
        inner = task(depth - 1)
        return [*inner, *(task.lock_for(x).locked() for x in (0, 1))]

    task = make(body, {"include_args": True})
    assert task(1) == [True, True, False, True]


def test_another_thread_is_another_instance(make_one: Make) -> None:
    def body() -> BaseException | None:
        errors: list[BaseException] = []

        def inner() -> None:
            try:
                task()
            except OtherInstanceError as error:
                errors.append(error)

        thread = threading.Thread(target=inner)
        thread.start()
        thread.join(30)
        return errors[0] if errors else None

    task = make_one(body, {})
    assert isinstance(task(), OtherInstanceError)


def test_the_running_task_can_ask_for_its_lock(make: Make) -> None:
    def body(depth: int) -> list[str]:
        lock = current_lock()
        lock.check()
        assert lock.owned()
        assert lock.holder() == task.lock_for(depth).holder()
        inner = task(depth - 1) if depth else []
        assert current_lock() is lock
        return [lock.name, *inner]

    task = make(body, {"include_args": True})
    assert task(1) == [task.lock_for(1).name, task.lock_for(0).name]


def test_nobody_else_has_a_current_lock() -> None:
    with pytest.raises(LockNotOwned, match="for the body of a task"):
        current_lock()
