"""The INSERT of a job: its values, and whom it wakes."""

from __future__ import annotations

import pytest

from celery_mysqllock.exceptions import SettingsError
from celery_mysqllock.jobs import LockNames, NewJob, OrderKey, UniqueKey
from celery_mysqllock.jobs.new_job import Insertion

NAMES = LockNames("shop.jobs")
KEY = OrderKey("task:key", limit=2)


@pytest.mark.parametrize(
    ("job", "status", "find"),
    [
        (NewJob("q", "x"), 0, "find_sleeper"),
        (NewJob("q", "x", delay=0.0), 2, "find_sweeper"),
        (NewJob("q", "x", order=KEY), 4, "find_nobody"),
        (NewJob("q", "x", order=KEY, delay=9), 2, "find_sweeper"),
    ],
)
def test_the_status_says_whom_a_job_wakes(job: NewJob, status: int, find: str) -> None:
    insertion = Insertion.of(job, NAMES)
    assert (insertion.values["job_status"], insertion.find) == (status, find)


def test_the_values_are_those_of_the_columns() -> None:
    job = NewJob("q", "x", priority=9, task_id="t", unique=UniqueKey("queued:a"), order=KEY)
    values = Insertion.of(job, NAMES).values
    names = ("claim_order", "task_id", "unique_key", "order_key", "order_limit")
    assert [values[name] for name in names] == [0, "t", "queued:a", "task:key", 2]
    assert [values[f"bell{slot}"] for slot in range(8)] == list(NAMES.bells("q"))


@pytest.mark.parametrize(
    "job",
    [
        NewJob("q" * 256, "x"),
        NewJob("q", "x", unique=UniqueKey("k" * 256)),
        NewJob("q", "x", order=OrderKey("é")),
    ],
)
def test_what_no_column_holds_is_refused(job: NewJob) -> None:
    with pytest.raises(SettingsError):
        Insertion.of(job, NAMES)


def test_a_task_id_that_is_too_long_is_derived_from_the_row() -> None:
    assert Insertion.of(NewJob("q", "x", task_id="x" * 256), NAMES).values["task_id"] is None
