"""What a unique task needs, said when it is sent; tests/broker/test_unique.py sends to a table."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest
from kombu.transport import memory

from celery_mysqllock import single_instance
from celery_mysqllock.exceptions import LockError, LockNotOwned, SettingsError
from celery_mysqllock.tasks import current_lock

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery, Task


def body(x: int = 0) -> int:
    return x


@pytest.mark.parametrize("kind", ["queued", "until_done"])
def test_another_broker_than_the_job_table_is_refused_and_nothing_is_sent(
    make: Callable[..., Task], kind: str
) -> None:
    task = make(body, {"unique": kind})
    with pytest.raises(SettingsError, match=rf"{task.name} is unique.*its broker is memory"):
        task.delay()


def test_so_it_is_when_the_call_alone_says_that_it_is_unique(make: Callable[..., Task]) -> None:
    task = make(body, {})
    task.delay()
    with pytest.raises(SettingsError, match="its broker is memory"):
        task.apply_async(unique="queued")


def test_a_call_may_say_that_it_is_not_unique(make: Callable[..., Task]) -> None:
    make(body, {"unique": "queued"}).apply_async(unique=None)


def test_the_call_of_a_task_without_a_key_cannot_be_unique(app: Celery) -> None:
    with pytest.raises(SettingsError, match="nothing says which of its calls are equal"):
        app.task(body).apply_async(unique="queued")


def test_a_call_with_an_unknown_kind_is_refused(make_one: Callable[..., Task]) -> None:
    with pytest.raises(SettingsError, match="'queued', 'until_done', or None"):
        make_one(body, {}).apply_async(unique="sometimes")


def test_arguments_that_do_not_fit_are_the_callers_error(make_one: Callable[..., Task]) -> None:
    with pytest.raises(TypeError):
        make_one(body, {"unique": "queued", "unique_on": ["x"]}).apply_async((1, 2))


def test_until_done_is_refused_where_the_job_is_acknowledged_when_it_begins(
    app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory.Transport, "implements", {"unique_jobs": True})
    for acks_late in (False, True):
        task = app.task(acks_late=acks_late, name=f"late_{acks_late}")(
            single_instance(unique="until_done")(body)
        )
        with nullcontext() if acks_late else pytest.raises(SettingsError, match="acks_late=True"):
            task.delay()
        task.apply_async(task_id="a retry")


def test_eager_tasks_run_each_time(make: Callable[..., Task], app: Celery) -> None:
    app.conf.task_always_eager = True
    task = make(body, {"unique": "until_done"})
    assert [task.delay(number).get() for number in (1, 2)] == [1, 2]
    assert task.apply_async((3,), unique="queued").get() == 3


def test_with_limit_none_there_is_no_lock(make: Callable[..., Task]) -> None:
    def inner() -> str:
        with pytest.raises(LockNotOwned):
            current_lock()
        return "ran"

    task = make(inner, {"limit": None, "unique": "queued"})
    assert task() == "ran"
    assert task.apply().get() == "ran"
    with pytest.raises(LockError, match="limit=None"):
        task.lock_for()


@pytest.mark.parametrize(
    "option", [{"wait": 1}, {"on_conflict": "skip"}, {"on_lost": "log"}], ids=str
)
def test_options_of_a_lock_contradict_limit_none(option: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=f"{next(iter(option))} is for a lock"):
        single_instance(limit=None, **option)(body)
