"""Beats on an empty schedule: real processes, and schedulers in the process of the test."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery

import celery_mysqllock  # noqa: F401 - makes mysql:// known
from celery_mysqllock.beat import Scheduler
from tests.beat.beat import Beat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from celery_mysqllock.mysql import Session


@pytest.fixture
def start_beat(session: Session, tmp_path: Path) -> Iterator[Callable[..., Beat]]:
    """Starts real beats; the arguments are name, entries and seconds, and Celery's settings."""
    beats: list[Beat] = []

    def start(
        name: str,
        schedule: dict[str, float] | None = None,
        *command: str,
        broker: str | None = None,
        **config: Any,
    ) -> Beat:
        environment = {
            "BROKER_URL": session.address.url() if broker is None else broker,
            "BEAT_SCHEDULE": json.dumps(schedule or {}),
            "CONFIG": json.dumps(config),
        }
        beats.append(Beat(name, tmp_path, *command, **environment))
        return beats[-1]

    yield start
    for beat in beats:
        beat.kill()


class InProcess:
    """A scheduler in the process of the test, which has its turns when the test says so."""

    def __init__(self, app: Celery) -> None:
        self.app = app
        self.scheduler = Scheduler(app)

    def turns(self, until: Callable[[], object], within: float = 30.0) -> None:
        """Give it turns until the condition is true."""
        deadline = time.monotonic() + within
        while not until():
            assert time.monotonic() < deadline, "the condition did not come true"
            pause = self.scheduler.tick()
            if pause:
                time.sleep(min(pause, 0.05))

    def look(self) -> None:
        """Give it turns until it has looked into the table again and nothing is due."""
        deadline = time.monotonic() + 1.1
        self.turns(lambda: time.monotonic() > deadline)

    def close(self) -> None:
        self.scheduler.close()


@pytest.fixture
def scheduler(session: Session) -> Iterator[Callable[..., InProcess]]:
    """Makes schedulers in this process; the arguments are the schedule and Celery's settings."""
    made: list[InProcess] = []

    def make(
        schedule: dict[str, Any] | None = None, broker: str | None = None, **config: Any
    ) -> InProcess:
        app = Celery("inside", broker=broker or session.address.url(), set_as_current=False)
        # without it Celery adds a task of its own
        app.conf.update(beat_schedule=schedule or {}, result_expires=None)
        app.conf.update(config)
        made.append(InProcess(app))
        return made[-1]

    yield make
    for one in made:
        one.close()


class Sent:
    """What has been sent into the job table."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def __call__(self, entry: str) -> int:
        """How many jobs there are of the entry, whose first argument is its name."""
        return int(
            self._session.value(
                "SELECT COUNT(*) FROM jobs WHERE JSON_EXTRACT(message, '$.body[0][0]') = %s",
                (entry,),
            )
        )

    def due_times(self, entry: str) -> list[float]:
        """When the ticks were due that were sent, in seconds."""
        rows = self._session.query(
            "SELECT UNIX_TIMESTAMP(due_at) FROM jobs_ticks "
            "WHERE name = %s AND sent_at IS NOT NULL ORDER BY due_at",
            (entry,),
        )
        return [float(row[0]) for row in rows]

    def gaps(self, entry: str) -> set[float]:
        """The seconds between two ticks that were due one after the other and sent."""
        return {round(after - before, 4) for before, after in pairwise(self.due_times(entry))}

    def assert_each_tick_once(self, entry: str, every: float) -> None:
        """No tick since the first was left out, and each has one job."""
        # with one statement: a beat that was killed a moment ago may still be committing
        ((jobs, ticks, seconds),) = self._session.query(
            "SELECT (SELECT COUNT(*) FROM jobs"
            "        WHERE JSON_EXTRACT(message, '$.body[0][0]') = %(entry)s), COUNT(*), "
            "       TIMESTAMPDIFF(MICROSECOND, MIN(due_at), MAX(due_at)) / 1e6 "
            "FROM jobs_ticks WHERE name = %(entry)s AND sent_at IS NOT NULL",
            {"entry": entry},
        )
        assert (jobs, ticks) == (ticks, round(seconds / every) + 1)
        assert self.gaps(entry) <= {every}


@pytest.fixture
def sent(session: Session) -> Sent:
    """Asks what has been sent."""
    return Sent(session)
