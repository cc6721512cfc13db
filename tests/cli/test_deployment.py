"""Where a command works: given by an app, by a URL, or by nobody."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = str(Path(sys.executable).with_name("mysqllock"))


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_works_on_a_url_alone(url: str) -> None:
    done = run("--url", url, "--table", "tasks", "migrate")
    assert (done.returncode, done.stderr) == (0, "")
    assert "tasks: create" in done.stdout
    again = run("--table", "tasks", "migrate", MYSQLLOCK_URL=url)
    assert again.stdout == "tasks is up to date.\n"


def test_the_command_works_on_an_app(url: str) -> None:
    done = run("-A", "tests.broker.app", "migrate", BROKER_URL=url)
    assert (done.returncode, done.stderr) == (0, "")


def test_without_either_it_says_what_to_do() -> None:
    done = run("migrate", MYSQLLOCK_URL="")
    assert done.returncode == 1
    assert "mysqllock --url mysql://" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_app_that_is_not_there_is_said_so() -> None:
    done = run("-A", "no_such_app", "migrate")
    assert done.returncode == 2
    assert "no Celery app 'no_such_app'" in done.stderr


def test_a_wrong_table_name_is_refused(url: str) -> None:
    done = run("--url", url, "--table", "a b", "migrate")
    assert done.returncode == 1
    assert "--table='a b' is not allowed" in done.stderr
