"""Each driver, each end of a transaction: order and job are both there, or neither is."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.broker.callers import (
    EACH_KIND,
    KINDS,
    can_use,
    is_installed,
    sent,
    skip_what_django_refuses,
)
from tests.broker.enqueue import OUTCOMES, UNIQUE
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_mysqllock.mysql import Session
    from tests.broker.listener import Listener
    from tests.broker.worker import Worker


LEDGER = "SELECT entry FROM ledger"


@pytest.fixture(autouse=True)
def _tables(session: Session) -> None:
    """What programs and workers write into."""
    session.execute("CREATE TABLE orders (entry VARCHAR(200))")
    session.execute("CREATE TABLE ledger (entry VARCHAR(200), pid INT)")


def start(environment: dict[str, str], kind: str, *outcomes: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.broker.enqueue", kind, *outcomes]
    return subprocess.Popen(command, env=environment)


def column(session: Session, sql: str) -> list[str]:
    return sorted(str(row[0]) for row in session.query(sql))


@pytest.mark.parametrize("kind", EACH_KIND)
def test_a_job_is_there_if_and_only_if_its_order_is(
    kind: str, session: Session, environment: dict[str, str]
) -> None:
    skip_what_django_refuses(kind, session)
    killed = [outcome for outcome in OUTCOMES if outcome.startswith("killed")]
    # after which a connection of mysqlclient is of no use
    unread = "refused, as rows are not read yet"
    others = [outcome for outcome in OUTCOMES if outcome not in (*killed, unread)]
    program = start(environment, kind, *others)
    assert start(environment, kind, unread).wait(60) == 0
    victims = [start(environment, kind, outcome) for outcome in killed]
    assert program.wait(60) == 0
    assert {victim.wait(60) for victim in victims} == {-signal.SIGKILL}
    orders = column(session, "SELECT entry FROM orders")
    jobs = sorted(sent(session))
    for outcome in OUTCOMES:
        print(  # noqa: T201 - pytest -rP shows the table
            f"| {kind} | {outcome} | {orders.count(outcome)} | {jobs.count(outcome)} |"
        )
    assert orders == jobs == sorted(outcome for outcome, is_there in OUTCOMES.items() if is_there)


@pytest.mark.parametrize("kind", EACH_KIND)
def test_a_unique_task_is_stored_once_and_the_transaction_goes_on(
    kind: str, session: Session, environment: dict[str, str]
) -> None:
    skip_what_django_refuses(kind, session)
    assert start(environment, kind, UNIQUE).wait(60) == 0
    jobs = sorted(sent(session))
    assert jobs == ["another", UNIQUE]


@pytest.mark.parametrize("kind", EACH_KIND)
def test_the_commit_rings(
    kind: str, session: Session, environment: dict[str, str], listener: Listener
) -> None:
    skip_what_django_refuses(kind, session)
    listener.fall_asleep()
    assert start(environment, kind, "commit").wait(60) == 0
    listener.hear()


def test_a_worker_runs_what_was_committed_and_nothing_else(
    session: Session, environment: dict[str, str], start_worker: Callable[..., Worker]
) -> None:
    worker = start_worker()
    kinds = [kind for kind in KINDS if is_installed(kind) and can_use(kind, session)]
    for kind in kinds:
        assert start(environment, kind, "exception after the INSERT", "commit").wait(60) == 0
    eventually(lambda: len(column(session, LEDGER)) == len(kinds))
    assert worker.stop() == 0
    assert column(session, LEDGER) == ["commit"] * len(kinds)


def test_a_worker_finds_what_nobody_could_ring_for(
    session: Session, environment: dict[str, str], start_worker: Callable[..., Worker]
) -> None:
    start_worker()
    assert start(environment, "PyMySQL", "killed after the COMMIT").wait(60) == -signal.SIGKILL
    eventually(lambda: column(session, LEDGER) == ["killed after the COMMIT"])
