"""What only informs people ends no worker and delays no job: counts, the list of consumers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.broker import sessions
from celery_mysqllock.jobs import Publisher
from celery_mysqllock.mysql import Session
from tests.broker.app import note
from tests.broker.callers import Plain
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.broker.worker import Worker

pytestmark = pytest.mark.usefixtures("producer_url")


@pytest.mark.parametrize("table", ["jobs_throughput", "jobs_consumers"])
def test_a_locked_table_of_statistics_holds_up_no_job(
    table: str, session: Session, start_worker: Callable[..., Worker]
) -> None:
    worker = start_worker()
    with Session(session.address) as other:
        other.execute(f"LOCK TABLES {table} WRITE")
        for entry in range(3):
            note.delay(entry)
        eventually(lambda: session.value("SELECT COUNT(*) FROM ledger") == 3)
        eventually(lambda: session.value("SELECT COUNT(*) FROM jobs") == 0, within=15)
        note.delay("more")
        eventually(lambda: session.value("SELECT COUNT(*) FROM ledger") == 4, within=15)
    assert worker.stop() == 0


def test_a_commit_does_not_fail_for_what_is_told_after_it(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(Publisher, "announce", fail)
    monkeypatch.setattr(sessions.logger, "warning", fail)
    caller = Plain(session.address.url(), "pymysql")
    with caller.transaction():
        note.delay("x")
    caller.connection.close()
    assert session.value("SELECT COUNT(*) FROM jobs") == 1


@pytest.mark.parametrize("table", ["jobs_throughput", "jobs_consumers"])
def test_a_missing_table_of_statistics_holds_up_no_job(
    table: str, session: Session, start_worker: Callable[..., Worker]
) -> None:
    worker = start_worker()
    session.execute(f"DROP TABLE {table}")
    for entry in range(3):
        note.delay(entry)
    eventually(lambda: session.value("SELECT COUNT(*) FROM jobs") == 0, within=15)
    assert worker.stop() == 0
