"""A task with ``on_conflict="queue"`` is sent with its key, however it got its lock."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from celery_mysqllock.tasks.sending import acknowledge_late

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery, Task

QUEUE = {"unique_on": ["x"], "on_conflict": "queue"}


def body(x: int, y: int = 0) -> tuple[int, int]:
    return x, y


@pytest.fixture
def sent(app: Celery, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The options of what is sent, which goes nowhere."""
    options: list[dict[str, Any]] = []
    app.conf.broker_url = "mysql://nobody@localhost/nothing"
    monkeypatch.setattr(app, "send_task", lambda *_, **given: options.append(given))
    return options


def test_equal_keys_share_a_line(make: Callable[..., Task], sent: list[dict[str, Any]]) -> None:
    task = make(body, {**QUEUE, "limit": 3})
    task.delay(1)
    task.apply_async(kwargs={"x": 1, "y": 5})
    task.signature((2,)).apply_async()
    one, same, other = [(options["order_key"], options["order_limit"]) for options in sent]
    assert one == same
    assert other != one
    assert one[1] == 3


def test_tasks_that_name_the_same_key_share_a_line(
    make_one: Callable[..., Task], sent: list[dict[str, Any]]
) -> None:
    for _ in range(2):
        make_one(body, {"key": "account:{x}", "on_conflict": "queue"}).delay(7)
    assert [options["order_key"] for options in sent] == ["task:account:7"] * 2


def test_other_tasks_are_sent_as_they_were(
    make_one: Callable[..., Task], sent: list[dict[str, Any]]
) -> None:
    make_one(body, {"unique_on": ["x"]}).delay(1)
    assert "order_key" not in sent[0]


def test_an_argument_that_cannot_be_part_of_a_key_is_refused(
    make_one: Callable[..., Task], sent: list[dict[str, Any]]
) -> None:
    with pytest.raises(TypeError, match="argument 'x'"):
        make_one(body, QUEUE).delay(object())
    assert sent == []


def test_an_eager_task_runs_at_once_whatever_the_broker(make_one: Callable[..., Task]) -> None:
    task = make_one(body, QUEUE)
    task.app.conf.task_always_eager = True
    assert task.delay(1).get() == (1, 0)


def test_a_worker_acknowledges_them_when_they_have_ended(
    make: Callable[..., Task], make_one: Callable[..., Task], app: Celery
) -> None:
    ordered, other = make(body, QUEUE), make_one(body, {"unique_on": ["x"]})
    acknowledge_late(sender=SimpleNamespace(app=app))
    assert app.tasks[ordered.name].acks_late
    assert not app.tasks[other.name].acks_late
