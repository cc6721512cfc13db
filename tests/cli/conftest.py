"""The command as a user runs it, on a job table of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.jobs import JobTable

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_mysqllock.mysql import Session

PROGRAM = str(Path(sys.executable).with_name("mysqllock"))


@pytest.fixture
def jobs(session: Session) -> JobTable:
    return JobTable(session, retains=True)


@pytest.fixture
def mysqllock(session: Session) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs ``mysqllock`` with these words, in a terminal of 80 columns."""

    def run(*words: str, answer: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PROGRAM, *words],
            env={**os.environ, "MYSQLLOCK_URL": session.address.url(), "COLUMNS": "80"},
            input=answer,
            capture_output=True,
            text=True,
            check=False,
        )

    return run
