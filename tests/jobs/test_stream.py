"""A stream claims ahead of its window what goes fast, and gives back what does not."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.jobs import JobTable, Migrations, Stream
from celery_mysqllock.mysql import Session
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_mysqllock.jobs import ClaimedJob

OWNER = "a" * 32
WINDOW = 4


@pytest.fixture
def jobs(session: Session) -> JobTable:
    Migrations(session).apply()
    for number in range(400):
        session.execute("INSERT INTO jobs (message) VALUES (%s)", (number,))
    return JobTable(session)


@pytest.fixture
def knocked() -> threading.Event:
    return threading.Event()


@pytest.fixture
def stream(jobs: JobTable, session: Session, knocked: threading.Event) -> Iterator[Stream]:
    def open_table() -> tuple[Session, JobTable]:
        own = Session(session.address).open()
        return own, JobTable(own, jobs.name)

    stream = Stream(
        open_table,
        OWNER,
        claim_limit=64,
        on_jobs=knocked.set,
        on_dry=lambda: None,
        on_end=lambda: None,
        is_alone=lambda: True,
    )
    stream.set_window(WINDOW)
    stream.start()
    stream.consume(["celery"])
    yield stream
    stream.close()


def take(stream: Stream, knocked: threading.Event) -> ClaimedJob:
    while (job := stream.take()) is None:
        assert knocked.wait(20)
        knocked.clear()
    return job


def claimed(session: Session) -> int:
    return int(session.value("SELECT COUNT(*) FROM jobs WHERE job_status = 1"))


def test_no_more_is_taken_than_the_window_holds(stream: Stream, knocked: threading.Event) -> None:
    for _ in range(200):
        stream.ack(take(stream, knocked).id)
    out = [take(stream, knocked) for _ in range(WINDOW)]
    assert stream.take() is None
    stream.ack(out[0].id)
    assert take(stream, knocked).id > out[-1].id


def test_what_goes_fast_is_claimed_ahead_and_goes_back_when_it_stops(
    stream: Stream, session: Session, knocked: threading.Event
) -> None:
    most = 0
    for _ in range(300):
        stream.ack(take(stream, knocked).id)
        most = max(most, claimed(session))
    assert most > WINDOW
    out = [take(stream, knocked) for _ in range(WINDOW)]
    eventually(lambda: claimed(session) == WINDOW)
    back = session.query("SELECT id, deliveries FROM jobs WHERE job_status = 0 ORDER BY id")
    assert {deliveries for _, deliveries in back} == {0}
    stream.ack(out[0].id)
    # in its place in line
    assert take(stream, knocked).id == back[0][0]


def test_nothing_is_claimed_ahead_where_the_window_is_all_there_is_room_for(
    stream: Stream, session: Session, knocked: threading.Event
) -> None:
    stream.set_window(WINDOW, ahead=False)
    for _ in range(100):
        stream.ack(take(stream, knocked).id)
        assert claimed(session) <= 2 * WINDOW  # acks that are on their way count
    for _ in range(WINDOW):
        take(stream, knocked)
    eventually(lambda: claimed(session) == WINDOW)


def test_the_last_ack_waits_for_no_other(
    stream: Stream, session: Session, knocked: threading.Event
) -> None:
    session.execute("DELETE FROM jobs WHERE job_status = 0")
    left = claimed(session)
    for _ in range(left):
        stream.ack(take(stream, knocked).id)
    eventually(lambda: claimed(session) == 0)
