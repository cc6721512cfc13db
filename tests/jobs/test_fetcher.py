"""A fetcher claims ahead of its window what goes fast, and gives back what does not."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.jobs import Fetcher, JobTable, Migrations
from celery_mysqllock.jobs import fetcher as fetching
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
def notified() -> threading.Event:
    return threading.Event()


@pytest.fixture
def ended() -> threading.Event:
    return threading.Event()


@pytest.fixture
def fetcher(
    jobs: JobTable, session: Session, notified: threading.Event, ended: threading.Event
) -> Iterator[Fetcher]:
    def open_table() -> tuple[Session, JobTable]:
        # a sign of life each second
        own = Session(session.address, idle_timeout=3).open()
        return own, JobTable(own, jobs.name)

    fetcher = Fetcher(
        open_table,
        OWNER,
        claim_limit=64,
        on_jobs=notified.set,
        on_drained=lambda: None,
        on_end=ended.set,
        is_alone=lambda: True,
    )
    fetcher.set_window(WINDOW)
    fetcher.start()
    fetcher.consume(["celery"])
    yield fetcher
    fetcher.close()


def take(fetcher: Fetcher, notified: threading.Event) -> ClaimedJob:
    while (job := fetcher.take()) is None:
        assert notified.wait(20)
        notified.clear()
    return job


def claimed(session: Session) -> int:
    return int(session.value("SELECT COUNT(*) FROM jobs WHERE job_status = 1"))


def test_no_more_is_taken_than_the_window_holds(
    fetcher: Fetcher, notified: threading.Event
) -> None:
    for _ in range(200):
        fetcher.ack(take(fetcher, notified).id)
    out = [take(fetcher, notified) for _ in range(WINDOW)]
    assert fetcher.take() is None
    fetcher.ack(out[0].id)
    assert take(fetcher, notified).id > out[-1].id


def test_what_goes_fast_is_claimed_ahead_and_goes_back_when_it_stops(
    fetcher: Fetcher, session: Session, notified: threading.Event
) -> None:
    most = 0
    for _ in range(300):
        fetcher.ack(take(fetcher, notified).id)
        most = max(most, claimed(session))
    assert most > WINDOW
    out = [take(fetcher, notified) for _ in range(WINDOW)]
    eventually(lambda: claimed(session) == WINDOW)
    back = session.query("SELECT id, deliveries FROM jobs WHERE job_status = 0 ORDER BY id")
    assert {deliveries for _, deliveries in back} == {0}
    fetcher.ack(out[0].id)
    # in its place in line
    assert take(fetcher, notified).id == back[0][0]


def test_nothing_is_claimed_ahead_where_the_window_is_all_there_is_room_for(
    fetcher: Fetcher, session: Session, notified: threading.Event
) -> None:
    fetcher.set_window(WINDOW, ahead=False)
    for _ in range(100):
        fetcher.ack(take(fetcher, notified).id)
        assert claimed(session) <= 2 * WINDOW  # acks that are on their way count
    for _ in range(WINDOW):
        take(fetcher, notified)
    eventually(lambda: claimed(session) == WINDOW)


def test_the_last_ack_waits_for_no_other(
    fetcher: Fetcher, session: Session, notified: threading.Event
) -> None:
    session.execute("DELETE FROM jobs WHERE job_status = 0")
    left = claimed(session)
    for _ in range(left):
        fetcher.ack(take(fetcher, notified).id)
    eventually(lambda: claimed(session) == 0)


def test_jobs_may_outlive_a_closed_fetcher_for_long(
    fetcher: Fetcher,
    session: Session,
    notified: threading.Event,
    ended: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fetching, "_FLUSH", 0.1)
    running = [take(fetcher, notified) for _ in range(2)]
    fetcher.close(still_running=[job.id for job in running])
    assert not ended.wait(2.5)
    for job in running:
        fetcher.ack(job.id)
    assert ended.wait(20)
    ids = [job.id for job in running]
    assert session.query("SELECT id FROM jobs WHERE id IN %s", (ids,)) == []
    assert claimed(session) == 0


def test_what_the_server_cannot_settle_at_the_end_is_settled_when_it_can_again(
    fetcher: Fetcher,
    session: Session,
    notified: threading.Event,
    ended: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fetching, "_FLUSH", 0.1)
    done = [take(fetcher, notified).id for _ in range(2)]
    session.execute("RENAME TABLE jobs TO away")
    for job_id in done:
        fetcher.ack(job_id)
    fetcher.close()
    assert not ended.wait(2.5)
    session.execute("RENAME TABLE away TO jobs")
    assert ended.wait(20)
    assert session.query("SELECT id FROM jobs WHERE id IN %s", (done,)) == []
