"""Commands whose standard streams are closed, full, or read by nobody."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.jobs import NewJob
from tests.cli.conftest import PROGRAM

if TYPE_CHECKING:
    from celery_mysqllock.jobs import JobTable
    from celery_mysqllock.mysql import Session

COMMANDS = (
    ["jobs", "list"],
    ["jobs", "show", "1"],
    ["queues", "list", "--json"],
    ["stats"],
    ["locks"],
    ["doctor"],
    ["metrics", "--once"],
    ["top", "--once"],
)


def run(session: Session, redirection: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", f'exec "$0" "$@" {redirection}', PROGRAM, *words],
        env={**os.environ, "MYSQLLOCK_URL": session.address.url()},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_full_stdout_is_said_in_one_line_and_is_an_error(
    jobs: JobTable, session: Session, command: list[str]
) -> None:
    jobs.publisher.put(NewJob("q", "x"))
    done = run(session, ">/dev/full", *command)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "Error: No space left on device."
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_closed_stdout_is_no_error(jobs: JobTable, session: Session, command: list[str]) -> None:
    jobs.publisher.put(NewJob("q", "x"))
    done = run(session, ">&-", *command)
    assert "Traceback" not in done.stderr
    assert done.returncode == run(session, "", *command).returncode


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_who_reads_only_the_beginning_sees_no_error(
    jobs: JobTable, session: Session, command: list[str]
) -> None:
    jobs.publisher.put(NewJob("q", "x"))
    inside, outside = os.pipe()
    os.close(inside)
    done = subprocess.run(
        [PROGRAM, *command],
        env={**os.environ, "MYSQLLOCK_URL": session.address.url()},
        stdout=outside,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(outside)
    assert done.returncode in (0, 1)
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
    assert "Error" not in done.stderr


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
def test_an_error_that_cannot_be_said_has_its_exit_code(session: Session, redirection: str) -> None:
    assert run(session, redirection, "jobs", "list", "--bogus").returncode == 2
    assert run(session, redirection, "jobs", "show", "77").returncode == 1
    assert run(session, redirection, "queues", "pause", "new").returncode == 0
