"""A delivery is a start: what has begun counts, what was only claimed does not."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from celery_mysqllock.jobs import Fetcher, JobTable, NewJob, OrderKey, UniqueKey
from celery_mysqllock.jobs.job import pause_after
from celery_mysqllock.mysql import Address, Session
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery_mysqllock.jobs import ClaimedJob

ME, DEAD = "a" * 32, "d" * 32
MOST = 3


class Consuming:
    """A fetcher and its consumer."""

    def __init__(self, url: str, claim_method: str, *, slots: int | None, window: int) -> None:
        self._url = url
        self._claim_method = claim_method
        self._notified = threading.Event()
        self.fetcher = Fetcher(
            self._open,
            ME,
            claim_limit=64,
            on_jobs=self._notified.set,
            on_drained=lambda: None,
            on_end=lambda: None,
            is_alone=lambda: True,
            max_deliveries=MOST,
        )
        if slots is not None:
            self.fetcher.run_in(lambda: slots)
        self.fetcher.set_window(window)
        self.fetcher.start()
        self.fetcher.consume(["q"])

    def _open(self) -> tuple[Session, JobTable]:
        own = Session(Address.parse(self._url)).open()
        return own, JobTable(own, claim_method=self._claim_method)

    def take(self) -> ClaimedJob:
        while (job := self.fetcher.take()) is None:
            assert self._notified.wait(20)
            self._notified.clear()
        return job


Start = "Callable[..., Consuming]"


@pytest.fixture
def start(url: str, jobs: JobTable, claim_method: str) -> Iterator[Callable[..., Consuming]]:
    started: list[Consuming] = []

    def start_one(*, slots: int | None = 1, window: int = 8) -> Consuming:
        started.append(Consuming(url, claim_method, slots=slots, window=window))
        return started[-1]

    yield start_one
    for one in started:
        one.fetcher.close()


def put(jobs: JobTable, *texts: str) -> list[int]:
    return [jobs.publisher.put(NewJob("q", text)) for text in texts]


def deliveries(session: Session) -> list[int]:
    return [row[0] for row in session.query("SELECT deliveries FROM jobs ORDER BY id")]


def recovered(session: Session, jobs: JobTable, *texts: str) -> None:
    """Jobs that were taken back from a dead consumer which had not begun them."""
    values = {"ids": put(jobs, *texts)}
    session.execute("UPDATE jobs SET recoveries = 1 WHERE id IN %(ids)s", values)


def columns(session: Session, names: str) -> list[tuple[Any, ...]]:
    return session.query(f"SELECT {names} FROM jobs ORDER BY id")  # noqa: S608 - names of columns


def test_of_what_is_claimed_only_what_runs_at_once_counts(
    start: Callable[..., Consuming], jobs: JobTable, session: Session
) -> None:
    put(jobs, *"abcdef")
    consuming = start(slots=2)
    assert [consuming.take().is_started for _ in range(6)] == [True, True, *[False] * 4]
    assert deliveries(session) == [1, 1, 0, 0, 0, 0]


def test_what_begins_later_counts_as_soon_as_it_has_run_for_a_moment(
    start: Callable[..., Consuming], jobs: JobTable, session: Session
) -> None:
    put(jobs, *"abc")
    consuming = start()
    taken = [consuming.take() for _ in range(3)]
    consuming.fetcher.begin(taken[2].id)
    eventually(lambda: deliveries(session) == [1, 0, 1])
    assert columns(session, "started_at IS NULL") == [(0,), (1,), (0,)]


def test_what_is_given_back_in_order_was_not_delivered(
    start: Callable[..., Consuming], jobs: JobTable, session: Session
) -> None:
    put(jobs, *"abc")
    consuming = start(slots=2)
    for _ in range(3):
        consuming.fetcher.release(consuming.take().id)
    consuming.fetcher.close()
    expected = [(0, 0, 0, None)] * 3
    assert columns(session, "job_status, deliveries, recoveries, started_at") == expected


def test_what_a_dead_consumer_had_not_begun_goes_back_uncounted(
    jobs: JobTable, session: Session
) -> None:
    ids = put(jobs, "poison", "innocent")
    for death in range(1, MOST + 1):
        session.execute("UPDATE jobs SET job_status = 0, due_at = NULL WHERE job_status = 2")
        jobs.claims.claim("q", 2, DEAD)
        session.execute(
            "UPDATE jobs SET started_at = NULL, deliveries = 0 WHERE id = %s", (ids[1],)
        )
        jobs.maintenance.recover_claims_of(DEAD, MOST)
        assert columns(session, "deliveries, recoveries")[1] == (0, death)
    assert columns(session, "job_status, deliveries") == [(3, MOST), (0, 0)]
    assert "max_deliveries" in session.value("SELECT reason FROM jobs WHERE job_status = 3")


def test_without_a_limit_a_job_comes_back_for_ever(jobs: JobTable, session: Session) -> None:
    put(jobs, "poison")
    for _ in range(12):
        session.execute("UPDATE jobs SET job_status = 0, due_at = NULL")
        assert len(jobs.claims.claim("q", 1, DEAD)) == 1
        assert jobs.maintenance.recover_claims_of(DEAD, 0) == 1
    assert columns(session, "job_status, deliveries, recoveries") == [(2, 12, 12)]


def test_the_pause_before_a_job_runs_again_grows_up_to_a_minute() -> None:
    pauses = [pause_after(deliveries) for deliveries in range(1, 9)]
    assert pauses == pytest.approx([0, 0.2, 0.6, 1.8, 5.4, 16.2, 48.6, 60])
    assert pause_after(2**32) == 60


def test_a_job_that_fails_again_and_again_waits_longer_and_is_dead_at_last(
    start: Callable[..., Consuming], jobs: JobTable, session: Session
) -> None:
    order, unique = OrderKey("key"), UniqueKey("until_done:it")
    jobs.publisher.put(NewJob("q", "fails", order=order, task_id="one"))
    session.execute("UPDATE jobs SET unique_key = %s", (unique.text,))
    jobs.publisher.put(NewJob("q", "next", order=order))
    consuming = start()
    for time in range(1, MOST + 1):
        job = consuming.take()
        assert (job.message, job.deliveries, job.is_redelivered) == ("fails", time - 1, time > 1)
        consuming.fetcher.requeue(job.id, lambda: "It was the weather.")
        if time == MOST - 1:
            eventually(lambda: columns(session, "job_status, due_at IS NOT NULL")[0] == (2, 1))
            assert consuming.fetcher.take() is None
            eventually(jobs.maintenance.promote)
            consuming.fetcher.look(["q"])
    # it frees its keys, and the next of its line goes
    assert consuming.take().message == "next"
    (dead,) = session.query("SELECT deliveries, unique_key, reason FROM jobs WHERE job_status = 3")
    assert dead[:2] == (MOST, None)
    assert "max_deliveries" in dead[2]
    assert dead[2].endswith("It was the weather.")


def test_one_that_may_have_killed_a_worker_begins_when_its_start_is_written_down(
    start: Callable[..., Consuming], jobs: JobTable, session: Session
) -> None:
    recovered(session, jobs, *"abc")
    consuming = start(slots=4)
    for number in range(1, 4):
        job = consuming.take()
        assert job.is_started
        # and nobody beside it
        assert deliveries(session) == [1] + [0] * (3 - number)
        assert consuming.fetcher.take() is None
        consuming.fetcher.ack(job.id)
    eventually(lambda: deliveries(session) == [])


def test_one_that_goes_on_does_not_keep_the_others_waiting(
    start: Callable[..., Consuming], jobs: JobTable, session: Session
) -> None:
    recovered(session, jobs, *"abc")
    consuming = start(slots=4)
    assert [consuming.take().message for _ in range(3)] == ["a", "b", "c"]
    assert deliveries(session) == [1, 1, 1]


def test_it_waits_for_a_place_where_it_runs_at_once(
    start: Callable[..., Consuming], jobs: JobTable, session: Session
) -> None:
    put(jobs, "long")
    consuming = start(slots=1)
    long = consuming.take()
    recovered(session, jobs, "suspect")
    put(jobs, "behind it")
    consuming.fetcher.begin(long.id)
    consuming.fetcher.look(["q"])
    eventually(lambda: columns(session, "job_status") == [(1,)] * 3)
    assert consuming.fetcher.take() is None
    assert deliveries(session) == [1, 0, 0]
    consuming.fetcher.ack(long.id)
    assert [consuming.take().message for _ in range(2)] == ["suspect", "behind it"]


def test_a_consumer_that_says_nothing_gets_them_one_by_one(
    start: Callable[..., Consuming], jobs: JobTable, session: Session
) -> None:
    recovered(session, jobs, *"ab")
    consuming = start(slots=None, window=2)
    assert [consuming.take().is_started for _ in range(2)] == [True, True]


def test_the_greatest_number_of_deliveries_is_no_end(
    start: Callable[..., Consuming], jobs: JobTable, session: Session
) -> None:
    put(jobs, *"abc")
    session.execute("UPDATE jobs SET deliveries = 4294967295, recoveries = 4294967295")
    session.execute("UPDATE jobs SET recoveries = 0 WHERE message = 'a'")
    consuming = start()
    job = consuming.take()
    consuming.fetcher.ack(job.id)
    job = consuming.take()
    consuming.fetcher.requeue(job.id, lambda: "")
    job = consuming.take()
    consuming.fetcher.begin(job.id)
    consuming.fetcher.close(still_running=[job.id])
    consuming.fetcher.bury(job.id, "no")
    eventually(lambda: columns(session, "job_status") == [(3,), (3,)])


def test_what_was_claimed_by_a_dead_one_goes_back_whatever_its_count(
    jobs: JobTable, session: Session
) -> None:
    put(jobs, "x")
    session.execute("UPDATE jobs SET deliveries = 4294967295, recoveries = 4294967295")
    jobs.claims.claim("q", 1, DEAD)
    assert jobs.maintenance.recover_claims_of(DEAD, 0) == 1
    assert columns(session, "deliveries, recoveries") == [(4294967295, 4294967295)]
