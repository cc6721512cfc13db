"""Older programs, which take jobs with GET_LOCK, SELECT and UPDATE, beside our claims."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from celery_mysqllock.jobs import JobTable, NewJob
from celery_mysqllock.mysql import Address, Session
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

ME = "a" * 32
LOCK = "queue"


class OldConsumer:
    """Takes one job as the original description has it.

    Args:
        session: Its session.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def take(self, between: Callable[[], object] = lambda: None) -> str | None:
        """Take the oldest job.

        Args:
            between: Called between its SELECT and its UPDATE.
        """
        assert self._session.value("SELECT GET_LOCK(%s, 10)", (LOCK,)) == 1
        try:
            found = self._session.query(
                "SELECT id, message FROM jobs WHERE job_status = 0 ORDER BY id LIMIT 1"
            )
            between()
            for job_id, _ in found:
                self._session.execute("UPDATE jobs SET job_status = 1 WHERE id = %s", (job_id,))
            return found[0][1] if found else None
        finally:
            self._session.value("SELECT RELEASE_LOCK(%s)", (LOCK,))


def test_without_the_lock_an_older_program_and_a_claim_can_take_the_same_job(
    jobs: JobTable, claim_method: str, url: str
) -> None:
    jobs.publisher.put(NewJob("celery", "x"))
    taken: list[str | None] = []
    with Session(Address.parse(url)) as other:
        own = OldConsumer(other).take(
            lambda: taken.extend(job.message for job in jobs.claims.claim("celery", 1, ME))
        )
    assert [own, *taken] == ["x", "x"]


def test_with_the_lock_a_claim_waits_for_the_older_program(
    jobs: JobTable, claim_method: str, session: Session, url: str
) -> None:
    ours = JobTable(session, claim_method=claim_method, legacy_lock=LOCK)
    for text in ("first", "second"):
        jobs.publisher.put(NewJob("celery", text))
    taken: list[str | None] = []
    claiming = threading.Thread(
        target=lambda: taken.extend(job.message for job in ours.claims.claim("celery", 9, ME))
    )
    with Session(Address.parse(url)) as other, Session(Address.parse(url)) as watching:

        def claim_meanwhile() -> None:
            claiming.start()
            eventually(
                lambda: watching.value(
                    "SELECT COUNT(*) FROM information_schema.processlist "
                    "WHERE info LIKE 'SELECT GET_LOCK%%' AND state = 'User lock'"
                )
            )

        own = OldConsumer(other).take(claim_meanwhile)
    claiming.join()
    assert [own, *taken] == ["first", "second"]


def test_an_older_program_waits_for_a_claim_and_finds_the_lock_free_after_it(
    jobs: JobTable, claim_method: str, session: Session, url: str
) -> None:
    ours = JobTable(session, claim_method=claim_method, legacy_lock=LOCK)
    jobs.publisher.put(NewJob("celery", "x"))
    assert len(ours.claims.claim("celery", 1, ME)) == 1
    assert session.value("SELECT IS_FREE_LOCK(%s)", (LOCK,)) == 1
    with Session(Address.parse(url)) as other:
        assert OldConsumer(other).take() is None


def test_a_lock_that_is_never_free_makes_a_claim_find_nothing_and_say_why(  # noqa: PLR0913, PLR0917 - fixtures
    jobs: JobTable,
    claim_method: str,
    session: Session,
    url: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("celery_mysqllock.jobs.legacy._WAIT", 1)
    ours = JobTable(session, claim_method=claim_method, legacy_lock=LOCK)
    jobs.publisher.put(NewJob("celery", "x"))
    with Session(Address.parse(url)) as other:
        other.value("SELECT GET_LOCK(%s, 0)", (LOCK,))
        assert ours.claims.claim("celery", 1, ME) == []
    assert "legacy_lock" in caplog.text
    eventually(lambda: session.value("SELECT IS_FREE_LOCK(%s)", (LOCK,)) == 1)
    assert len(ours.claims.claim("celery", 1, ME)) == 1


def test_older_programs_and_claims_at_once_take_each_job_once(
    jobs: JobTable, claim_method: str, url: str
) -> None:
    total, each = 300, 3
    for number in range(total):
        jobs.publisher.put(NewJob("celery", str(number)))
    taken: list[str | None] = []
    start = threading.Barrier(2 * each)

    def take_old() -> None:
        with Session(Address.parse(url)) as session:
            start.wait()
            while (message := OldConsumer(session).take()) is not None:
                taken.append(message)

    def claim(owner: str) -> None:
        with Session(Address.parse(url)) as session:
            table = JobTable(session, claim_method=claim_method, legacy_lock=LOCK)
            start.wait()
            while claimed := table.claims.claim("celery", 3, owner):
                taken.extend(job.message for job in claimed)

    threads = [threading.Thread(target=take_old) for _ in range(each)]
    threads += [
        threading.Thread(target=claim, args=(format(number, "032x"),)) for number in range(each)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken, key=str) == sorted(map(str, range(total)))
