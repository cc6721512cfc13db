"""SingleInstanceTask as the base of one task, and of all tasks of an application."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from celery import chord

from celery_mysqllock import SingleInstanceTask, single_instance
from celery_mysqllock.exceptions import LockError, SettingsError
from tests.tasks.apps import new_app

if TYPE_CHECKING:
    from celery import Celery


def test_the_base_class_with_options_and_the_decorator_contradict_each_other(app: Celery) -> None:
    @app.task(base=SingleInstanceTask, lock={"wait": 1})
    @single_instance
    def body() -> None: ...

    with pytest.raises(SettingsError, match="two locks"):
        body.lock_for()


class TestTheBaseClassOfAllTasks:
    @pytest.fixture
    def app(self) -> Celery:
        return new_app(task_cls="celery_mysqllock:SingleInstanceTask")

    def test_locks_a_task_without_options(self, app: Celery) -> None:
        @app.task
        def body() -> bool:
            return bool(body.lock_for().locked())

        assert body() is True

    def test_leaves_a_task_with_lock_none_alone(self, app: Celery) -> None:
        @app.task(lock=None)
        def body() -> str:
            return "ran"

        assert body() == "ran"
        with pytest.raises(LockError, match="without a lock"):
            body.lock_for()

    def test_leaves_the_last_word_to_the_decorator(self, app: Celery) -> None:
        @app.task
        @single_instance(key="mine")
        def body() -> None: ...

        assert body.lock_for().name.endswith(":mine")

    def test_leaves_the_last_word_to_the_decorator_of_an_instance(self, app: Celery) -> None:
        class Made(SingleInstanceTask):
            name = "made"

            def run(self) -> None: ...

        task = single_instance(key="mine")(app.register_task(Made()))
        assert task.lock_for().name.endswith(":mine")

    def test_leaves_the_tasks_of_celery_alone(self, app: Celery) -> None:
        for name, task in app.tasks.items():
            if name.startswith("celery."):
                with pytest.raises(LockError, match="without a lock"):
                    task.lock_for()

    def test_chords_complete(self, app: Celery) -> None:
        app.conf.task_always_eager = True

        @app.task(lock={"include_args": True})
        def member(x: int) -> int:
            return x

        @app.task
        def total(numbers: list[int]) -> int:
            return sum(numbers)

        assert chord([member.s(1), member.s(2)])(total.s()).get() == 3

    def test_refuses_options_that_are_no_dict(self, app: Celery) -> None:
        @app.task(lock=True)
        def body() -> None: ...

        with pytest.raises(SettingsError, match=r"body.*no dict"):
            body.lock_for()


def test_super_run_is_a_part_of_the_run_that_calls_it(app: Celery) -> None:
    class Outer(SingleInstanceTask):
        name = "outer"
        lock = {"include_args": True}  # noqa: RUF012 - as users write it

        def run(self, x: int) -> str:
            return f"outer {x}"

    class Inner(Outer):
        name = "inner"

        def run(self, x: int) -> str:
            return f"inner {super().run(x + 1)}"

    assert app.register_task(Inner())(1) == "inner outer 2"
