"""Several beats, one of which sends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.jobs import Migrations
from celery_mysqllock.mysql import Address, Session
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

APP = """
import os
import celery_mysqllock
from celery import Celery

app = Celery("beating", broker=os.environ["BROKER_URL"])
app.conf.beat_schedule = {"tick": {"task": "tick", "schedule": 0.5, "args": [os.environ["BEAT"]]}}
app.conf.beat_max_loop_interval = 0.5
"""


class Beat:
    """A ``celery beat`` process."""

    def __init__(self, name: str, url: str, folder: Path) -> None:
        self._log = folder / f"{name}.log"
        with self._log.open("wb") as out:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "celery", "-A", "beating", "beat", "-S", "mysqllock"),
                    *("-s", str(folder / f"{name}.schedule"), "--loglevel=INFO", "--pidfile="),
                ],
                cwd=folder,
                env={**os.environ, "BROKER_URL": url, "BEAT": name},
                stdout=out,
                stderr=out,
            )

    def await_log(self, text: str) -> None:
        eventually(lambda: text in self._log.read_text(), what=f"{text!r} in a beat's log")

    def end(self, number: signal.Signals) -> int:
        self._process.send_signal(number)
        return self._process.wait(30)


@pytest.fixture
def session(url: str) -> Iterator[Session]:
    with Session(Address.parse(url)) as session:
        Migrations(session).apply()
        yield session


@pytest.fixture
def start_beat(url: str, tmp_path: Path) -> Iterator[Callable[[str], Beat]]:
    (tmp_path / "beating.py").write_text(APP)
    beats: list[Beat] = []

    def start(name: str) -> Beat:
        beats.append(Beat(name, url, tmp_path))
        return beats[-1]

    yield start
    for beat in beats:
        beat.end(signal.SIGKILL)


def ticks(session: Session, name: str) -> int:
    return int(
        session.value(
            "SELECT COUNT(*) FROM jobs WHERE JSON_EXTRACT(message, '$.body[0][0]') = %s", (name,)
        )
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_standby_goes_on_when_the_active_beat_ends(
    session: Session, start_beat: Callable[[str], Beat], number: signal.Signals
) -> None:
    first = start_beat("first")
    first.await_log("This beat is the active one")
    second = start_beat("second")
    second.await_log("this one stands by")
    eventually(lambda: ticks(session, "first") >= 2)
    assert ticks(session, "second") == 0
    first.end(number)
    second.await_log("This beat is the active one")
    sent = ticks(session, "first")
    eventually(lambda: ticks(session, "second") >= 2)
    assert ticks(session, "first") == sent


def test_a_beat_whose_session_is_killed_gets_back_in_line(
    session: Session, start_beat: Callable[[str], Beat]
) -> None:
    beat = start_beat("only")
    beat.await_log("This beat is the active one")
    lock = f"{session.address.database}:beat"
    session.execute("KILL %s", (session.value("SELECT IS_USED_LOCK(%s)", (lock,)),))
    beat.await_log("This beat has lost its lock")
    sent = ticks(session, "only")
    eventually(lambda: ticks(session, "only") >= sent + 2)
