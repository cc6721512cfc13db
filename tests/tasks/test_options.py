"""Wrong options are an error when the task is decorated, and the error names the task."""

from __future__ import annotations

from typing import Any

import pytest

from celery_mysqllock import single_instance
from celery_mysqllock.exceptions import SettingsError


def body(x: int, y: int = 1) -> None: ...


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"wat": 1}, "unknown option 'wat': known are key, include_args"),
        ({"lock_timeout": 30}, "no time limit"),
        ({"raise_on_duplicate": True}, "on_conflict='raise'"),
        ({"key": ""}, "key='' is not allowed"),
        ({"key": "  "}, "key='  ' is not allowed"),
        ({"key": 7}, "key=7 is not allowed"),
        ({"include_args": 1}, "include_args=1 is not allowed"),
        ({"unique_on": []}, "unique_on=.. is not allowed"),
        ({"unique_on": [1]}, "unique_on=.1. is not allowed"),
        ({"unique_on": 1}, "unique_on=1 is not allowed"),
        ({"unique_on": ["z"]}, "unique_on names 'z'.*it has x, y"),
        ({"wait": -1}, "wait=-1 is not allowed: it takes seconds, zero or more"),
        ({"wait": True}, "wait=True is not allowed"),
        ({"wait": float("inf")}, "wait=inf is not allowed"),
        ({"wait": "3"}, "wait='3' is not allowed"),
        ({"on_conflict": "explode"}, "'raise', 'skip', 'retry', 'queue' or a callable"),
        ({"on_conflict": None}, "on_conflict=None is not allowed"),
        ({"retry_countdown": -1, "on_conflict": "retry"}, "retry_countdown=-1 is not allowed"),
        ({"limit": 0}, "limit=0 is not allowed: it takes a whole number, one or more"),
        ({"limit": 1.5}, "limit=1.5 is not allowed"),
        ({"limit": True}, "limit=True is not allowed"),
        ({"on_lost": "cry"}, "'raise', 'log', 'terminate'"),
        ({"unique": "always"}, "unique='always' is not allowed: it takes 'queued', 'until_done'"),
        ({"key": "a", "unique_on": ["x"]}, "key and unique_on contradict"),
        ({"key": "a", "include_args": True}, "key and include_args contradict"),
        ({"include_args": True, "unique_on": ["x"]}, "include_args and unique_on contradict"),
        ({"skip_result": 1}, "skip_result means something only with on_conflict='skip'"),
        ({"retry_countdown": 1, "on_conflict": "skip"}, "only with on_conflict='retry' or 'queue'"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError, match=rf"tests\.tasks\.test_options\.body.*{problem}"):
        single_instance(**options)(body)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"wait": None},
        {"wait": 0.5},
        {"limit": 3},
        {"key": None, "unique_on": {"x"}},
        {"key": "a", "include_args": False, "unique_on": None},
        {"on_conflict": "skip", "skip_result": None},
        {"on_conflict": "retry", "retry_countdown": 0},
        {"on_conflict": "queue", "retry_countdown": 5, "limit": 3},
        {"on_conflict": print, "on_lost": "terminate"},
    ],
)
def test_right_options_are_taken(options: dict[str, Any]) -> None:
    assert single_instance(**options)(body).__name__ == "body"
