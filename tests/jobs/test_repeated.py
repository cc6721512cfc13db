"""What fails again and again is said once a minute, and each cause by itself."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from celery_mysqllock.exceptions import InvalidText, MissingPrivilege
from celery_mysqllock.jobs.repeated import RepeatedWarnings

if TYPE_CHECKING:
    import pytest


def test_a_cause_is_said_at_once_and_then_each_minute(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    warnings = RepeatedWarnings(logging.getLogger("celery_mysqllock.test"), lambda: now)
    for second in range(121):
        now = float(second)
        warnings.warn("It failed: %s", MissingPrivilege(f"at {second}"))
    assert [record.getMessage() for record in caplog.records] == [
        f"It failed: at {second}" for second in (0, 60, 120)
    ]


def test_another_thing_or_kind_of_error_is_another_cause(
    caplog: pytest.LogCaptureFixture,
) -> None:
    warnings = RepeatedWarnings(logging.getLogger("celery_mysqllock.test"), lambda: 0.0)
    for what, error in [("a", MissingPrivilege("x")), ("a", InvalidText("x"))] * 2:
        warnings.warn("Could not %s: %s", what, error)
    warnings.warn("Could not %s: %s", "b", InvalidText("x"))
    assert [record.getMessage() for record in caplog.records] == [
        "Could not a: x",
        "Could not a: x",
        "Could not b: x",
    ]
