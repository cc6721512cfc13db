"""What rows, programs and servers say cannot act on the terminal of who looks at it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import unicodedata
from typing import TYPE_CHECKING

import pytest

from celery_mysqllock import MySQLLock
from celery_mysqllock.cli.visible import visible, visible_json
from celery_mysqllock.jobs import NewJob
from celery_mysqllock.jobs.registry import Registry
from tests.cli.conftest import PROGRAM

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_mysqllock.jobs import JobTable
    from celery_mysqllock.mysql import Session

ME = "a" * 32
# the title of a window (OSC), clear the screen, C1's CSI, a bell, back over what was said, another
# direction, marks of direction, a new line in disguise, a tag that is not seen
ACTS = (
    "\x1b]0;owned\x07",
    "\x1b[2J",
    "\x9b2J",
    "\x7f",
    "\b\b\r",
    "\u202egnp.exe",
    "\u2066\u200f",
    "\u2028\u2029\x85",
    "\U000e0041",
)
BAD = "x".join(ACTS)
COMMANDS = (
    ["jobs", "list"],
    ["jobs", "show", "1"],
    ["jobs", "show", "2"],
    ["queues", "list"],
    ["stats"],
    ["consumers"],
    ["top", "--once"],
    ["locks"],
    ["locks", "show", "mine"],
    ["doctor"],
)


@pytest.fixture
def bad(session: Session, jobs: JobTable) -> Session:
    """A table in which every text is bad."""
    message = json.dumps({"headers": {"task": BAD, "id": BAD}, "body": [BAD]}, ensure_ascii=False)
    jobs.publisher.put(NewJob(BAD, message))
    jobs.publisher.put(NewJob(BAD, f"{BAD}\nno JSON"))
    jobs.claims.bury(jobs.claims.claim(BAD, 1, ME)[0].id, ME, f"ValueError: {BAD}\nTraceback")
    jobs.claims.claim(BAD, 1, ME)
    Registry(session).add(ME, f"celery@{BAD}", [BAD])
    return session


def acting(text: str) -> set[str]:
    """The characters in it that are no part of a text of several lines."""
    return {
        one
        for one in text
        if unicodedata.category(one) in ("Cc", "Cf", "Cs", "Zl", "Zp") and one != "\n"
    }


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_nothing_that_is_shown_acts_on_the_terminal(
    bad: Session, mysqllock: Callable[..., subprocess.CompletedProcess[str]], command: list[str]
) -> None:
    with MySQLLock("mine", url=bad.address.url(), note=BAD):
        done = mysqllock(*command)
        assert acting(done.stdout) == acting(done.stderr) == set()
        if command[0] in ("jobs", "queues", "stats"):
            assert "owned" in done.stdout or "2J" in done.stdout


@pytest.mark.parametrize("command", [*COMMANDS[:6], *COMMANDS[7:9], ["doctor"]], ids=" ".join)
def test_nothing_in_json_acts_and_it_means_the_same(
    bad: Session, mysqllock: Callable[..., subprocess.CompletedProcess[str]], command: list[str]
) -> None:
    with MySQLLock("mine", url=bad.address.url()):
        done = mysqllock(*command, "--json")
    assert acting(done.stdout) == acting(done.stderr) == set()
    found = json.loads(done.stdout)
    if command == ["queues", "list"]:
        assert found[0]["queue"] == BAD


@pytest.mark.usefixtures("bad")
def test_an_error_about_a_bad_name_does_not_act(
    mysqllock: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    for words in (["jobs", "show", BAD.replace("x", "y")], ["queues", "pause", f"{BAD} 2"]):
        done = mysqllock(*words)
        assert acting(done.stdout) == acting(done.stderr) == set()
        assert "owned" in done.stderr


def test_in_a_terminal_there_is_no_escape_sequence_of_a_row(bad: Session) -> None:
    program, terminal = pty.openpty()
    done = subprocess.run(
        [PROGRAM, "top", "--once"],
        env={**os.environ, "MYSQLLOCK_URL": bad.address.url(), "TERM": "xterm", "COLUMNS": "200"},
        stdout=terminal,
        check=False,
    )
    os.close(terminal)
    with os.fdopen(program, "rb") as screen:
        shown = screen.read1(60_000).decode()
    assert done.returncode == 0
    assert "\x1b[1m" in shown  # bold, which is its own
    for sequence in ACTS:
        assert sequence not in shown


def test_a_half_of_a_pair_is_shown(
    jobs: JobTable, mysqllock: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    job_id = jobs.publisher.put(NewJob("q", json.dumps({"task": "\ud800", "args": ["\udcff"]})))
    for words in (["jobs", "show", str(job_id)], ["jobs", "list"]):
        assert mysqllock(*words).returncode == 0
    assert r"\ud800" in mysqllock("jobs", "show", str(job_id)).stdout


def test_what_people_write_stays() -> None:
    for text in ("Größe", "\u0645\u06cc\u200c\u062e", "👩\u200d💻", "日本語"):
        assert visible(text) == text
        assert json.loads(visible_json(json.dumps(text))) == text
    assert visible("a\nb\tc") == r"a\nb\tc"
