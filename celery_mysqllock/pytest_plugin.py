"""A pytest fixture with which users test their single-instance tasks without a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def mysqllock_memory() -> Iterator[None]:
    """Keep the locks of all Celery applications in memory while the test runs.

    They keep the contract of the locks on a server within the test's process: its threads and
    eager tasks exclude each other. Each test begins with no lock held.
    """
    # here, so that a test run that does not use the fixture pays nothing for it
    from celery_mysqllock.app import locks_in_memory  # noqa: PLC0415

    with locks_in_memory():
        yield
