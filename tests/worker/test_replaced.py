"""How functions of Celery's worker are replaced."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import celery_mysqllock.worker
from celery_mysqllock.worker.replaced import replace, replace_item

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


class Theirs:
    """A class of another library."""

    def count(self, number: int) -> int:
        """Their docstring."""
        return number


def plus_one(inner: Callable[..., int]) -> Callable[..., int]:
    return lambda *args: inner(*args) + 1


def times_ten(inner: Callable[..., int]) -> Callable[..., int]:
    return lambda *args: inner(*args) * 10


def test_a_method_is_replaced_once_in_each_way() -> None:
    for wrap in (plus_one, plus_one, times_ten, plus_one):
        replace(Theirs, "count", wrap)
    assert Theirs().count(1) == 20
    assert Theirs.count.__doc__ == "Their docstring."


def test_a_command_is_replaced_once() -> None:
    commands = {"count": lambda number: number}
    for _ in range(2):
        replace_item(commands, "count", plus_one)
    assert commands["count"](1) == 2


def test_what_is_gone_is_said_and_the_rest_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    commands: dict[str, Any] = {}
    replace(Theirs, "gone", plus_one)
    replace_item(commands, "gone", plus_one)
    assert not hasattr(Theirs, "gone")
    assert commands == {}
    assert "does not have tests.worker.test_replaced.Theirs.gone" in caplog.text
    assert "does not have the command 'gone'" in caplog.text


def test_a_part_that_does_not_fit_leaves_the_others(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(celery_mysqllock.worker, "_PARTS", ("gone", "dead_reasons"))
    with caplog.at_level(logging.ERROR):
        celery_mysqllock.worker.prepare(sender=None)
    assert "without celery_mysqllock.worker.gone" in caplog.text
    assert "dead_reasons" not in caplog.text
