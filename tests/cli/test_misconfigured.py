"""What commands say of a configuration that is wrong: one line, with the exit code 1."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from celery_mysqllock.mysql import Address

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_mysqllock.mysql import Session

WORKER = ("worker", "--pool=solo")
BEAT = ("beat", "-S", "mysqllock")
OURS = ("mysqllock", "queues", "list")
OTHERS = (("call", "misconfigured.add"), ("purge", "-f"))


class Wrong(NamedTuple):
    """A configuration that is wrong.

    Attributes:
        url: The broker's URL, made of that of an empty database.
        said: What is said of it.
        settings: Celery's settings.
    """

    url: Callable[[str], str]
    said: str
    settings: dict[str, Any] = {}  # noqa: RUF012 - read only


def unchanged(url: str) -> str:
    return url


CASES = {
    "option": Wrong(
        unchanged,
        "broker_transport_options['claim_limit']=0 is not allowed",
        {"broker_transport_options": {"claim_limit": 0}},
    ),
    "login": Wrong(
        lambda url: url.replace(Address.parse(url).password, "wrong"),
        "The server refused the login.",
    ),
    "table": Wrong(unchanged, "There is no table jobs"),
    "database": Wrong(lambda url: f"{url}_none", "The database in the URL does not exist."),
    "ssl_mode": Wrong(lambda url: f"{url}?ssl_mode=NONE", "has ssl_mode='NONE'"),
    "broker_use_ssl": Wrong(unchanged, "ssl_mode='NONE'", {"broker_use_ssl": {"mode": "NONE"}}),
    "url": Wrong(lambda _: "mysql://user@127.0.0.1", "the URL names no database"),
}


def celery(url: str, *words: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run ``celery`` on that broker and with these settings."""
    return subprocess.run(
        [sys.executable, "-m", "celery", "-A", "tests.cli.misconfigured", *words],
        env={**os.environ, "BROKER_URL": url, "CONFIG": json.dumps(settings)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("wrong", CASES.values(), ids=CASES)
@pytest.mark.parametrize("command", [WORKER, BEAT, OURS, *OTHERS], ids=" ".join)
def test_what_is_wrong_is_one_line(url: str, wrong: Wrong, command: tuple[str, ...]) -> None:
    if command == BEAT and wrong is CASES["table"]:
        wrong = wrong._replace(said="There is no table jobs_schedule")
    done = celery(wrong.url(url), *command, **wrong.settings)
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    said = [line for line in done.stderr.splitlines() if wrong.said in line]
    assert len(said) == 1, done.stderr
    if command != WORKER:  # which warns of root before
        assert done.stderr.splitlines() == said


def test_a_setting_of_beat_that_is_wrong_is_one_line(session: Session) -> None:
    done = celery(session.address.url(), *BEAT, mysqllock_beat_catch_up=-1)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "mysqllock_beat_catch_up=-1 is not allowed" in line


@pytest.mark.parametrize("command", [WORKER, BEAT], ids=" ".join)
@pytest.mark.parametrize("level", ["--loglevel=DEBUG", "-ldebug"])
def test_the_traceback_comes_with_debug(url: str, command: tuple[str, ...], level: str) -> None:
    done = celery(url, *command, level)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "There is no table jobs" in done.stderr


def test_a_server_that_is_away_is_one_line_where_nothing_waits_for_it(url: str) -> None:
    away = url.replace(f":{Address.parse(url).port}/", ":1/")
    done = celery(away, "purge", "-f")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: The server cannot be reached.")


def test_the_errors_of_others_keep_their_traceback() -> None:
    broken = subprocess.run(
        [sys.executable, "-c", "import celery_mysqllock.cli; {}['x']"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert broken.returncode == 1
    assert "Traceback" in broken.stderr
    assert "KeyError: 'x'" in broken.stderr
