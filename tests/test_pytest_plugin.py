"""What users get for their own tests."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

USERS_TEST = """
import pytest
from celery import Celery
from celery_mysqllock import OtherInstanceError, single_instance

app = Celery("shop", broker="mysql://nobody@127.0.0.1:1/nothing")


@app.task
@single_instance(unique_on=["account"])
def rebuild(account):
    return account


@pytest.mark.parametrize("again", [1, 2])
def test_rebuild(mysqllock_memory, again):
    assert rebuild.apply(args=[7]).get() == 7
    rebuild.lock_for(7).acquire()
    assert rebuild.apply(args=[8]).get() == 8
    with pytest.raises(OtherInstanceError):
        rebuild.apply(args=[7]).get()
"""


def test_single_instance_tasks_run_without_a_server(tmp_path: Path) -> None:
    (tmp_path / "test_shop.py").write_text(USERS_TEST)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


@pytest.mark.parametrize("module", ["celery.app", "pymysql", "celery_mysqllock.locks"])
def test_a_run_that_does_not_use_the_fixture_does_not_import(module: str, tmp_path: Path) -> None:
    (tmp_path / "test_nothing.py").write_text(
        f"import sys\n\ndef test_nothing():\n    assert {module!r} not in sys.modules\n"
    )
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)),
            *("-p", "no:celery", "-p", "no:pytest_celery", "-p", "no:docker_tools"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
