"""Each driver, each end of a transaction: order and job are both there, or neither is."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.broker.callers import EACH_KIND, KINDS, needs_mysqlclient
from tests.broker.enqueue import OUTCOMES
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_mysqllock.mysql import Session
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
    killed = [outcome for outcome in OUTCOMES if outcome.startswith("killed")]
    others = [outcome for outcome in OUTCOMES if outcome not in killed]
    program = start(environment, kind, *others)
    victims = [start(environment, kind, outcome) for outcome in killed]
    assert program.wait(60) == 0
    assert {victim.wait(60) for victim in victims} == {-signal.SIGKILL}
    orders = column(session, "SELECT entry FROM orders")
    jobs = column(session, "SELECT JSON_VALUE(message, '$.body[0][0]') FROM jobs")
    for outcome in OUTCOMES:
        print(  # noqa: T201 - pytest -rP shows the table
            f"| {kind} | {outcome} | {orders.count(outcome)} | {jobs.count(outcome)} |"
        )
    assert orders == jobs == sorted(outcome for outcome, is_there in OUTCOMES.items() if is_there)


def test_a_worker_is_woken_by_the_commit_and_runs_nothing_else(
    session: Session, environment: dict[str, str], start_worker: Callable[..., Worker]
) -> None:
    start_worker(BROKER_OPTIONS='{"polling_interval": 60}')
    kinds = [kind for kind in KINDS if "mysqlclient" not in kind or not needs_mysqlclient.args[0]]
    for number, kind in enumerate(kinds, start=1):
        program = start(environment, kind, "exception after the INSERT", "commit")
        assert program.wait(60) == 0
        # in less than the 60 s after which the worker would look by itself
        ledger = eventually(
            lambda want=number: len(found := column(session, LEDGER)) >= want and found,  # type: ignore[misc]
            within=20,
            what=f"the job of {kind}",
        )
        assert ledger == ["commit"] * number


def test_a_worker_finds_what_nobody_could_ring_for(
    session: Session, environment: dict[str, str], start_worker: Callable[..., Worker]
) -> None:
    start_worker()
    assert start(environment, "PyMySQL", "killed after the COMMIT").wait(60) == -signal.SIGKILL
    eventually(lambda: column(session, LEDGER) == ["killed after the COMMIT"])
