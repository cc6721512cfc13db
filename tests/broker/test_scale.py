"""A job costs the same, whatever the number of queues that its worker consumes from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from kombu import Connection, Consumer, Queue

from celery_mysqllock.jobs import Inspection, JobTable, LockNames, NewJob, Work, bell
from celery_mysqllock.jobs.registry import Registry
from celery_mysqllock.mysql import free_among
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_mysqllock.mysql import Session
    from devserver import DevServer

ME = "a" * 32
JOBS = 10


@pytest.fixture
def server(own: DevServer) -> DevServer:
    """Counts of statements are a server's."""
    return own


@pytest.fixture(scope="module")
def own(start_server: Callable[..., DevServer]) -> DevServer:
    return start_server()


def statements_of_others(session: Session) -> int:
    """How many statements all sessions but this one have sent."""
    ((_, everybody),) = session.query("SHOW GLOBAL STATUS LIKE 'Questions'")
    ((_, own),) = session.query("SHOW SESSION STATUS LIKE 'Questions'")
    return int(everybody) - int(own)


class Idle:
    """A consumer of many queues, which sleeps."""

    def __init__(self, connection: Connection, session: Session, number: int) -> None:
        self.got: list[Any] = []
        self._connection, self._session = connection, session
        queues = [Queue(f"q{index}") for index in range(number)]
        self._consumer = Consumer(connection, queues, on_message=self._note)
        self._consumer.consume()
        self._bells = [
            names for queue in queues for names in [LockNames.of(session, "jobs").bells(queue.name)]
        ]

    def _note(self, message: Any) -> None:
        self.got.append(message.payload)
        message.ack()

    def is_held(self) -> bool:
        """Whether whoever publishes to any of its queues finds it."""
        flat = [name for names in self._bells for name in names]
        return len(flat) - len(free_among(self._session, flat)) == len(self._bells)

    def is_asleep(self) -> bool:
        """Whether it sleeps, and has settled all."""
        sleeps = (
            "SELECT COUNT(*) FROM information_schema.processlist"
            " WHERE db = DATABASE() AND info LIKE '%%SLEEP(600)%%' AND id <> CONNECTION_ID()"
        )
        left = self._session.value("SELECT COUNT(*) FROM jobs")
        return not left and self.is_held() and bool(self._session.value(sleeps))

    def take(self, number: int) -> None:
        while len(self.got) < number:
            self._connection.drain_events(timeout=30)


@pytest.fixture
def cost(
    session: Session, connect: Callable[..., Connection], monkeypatch: pytest.MonkeyPatch
) -> Callable[[int], float]:
    """How many statements a job costs a consumer of so many queues."""
    # the sweeper and the doorbell look for other things now and then
    monkeypatch.setattr(bell, "_SLEEP", 600)

    def measure(number: int) -> float:
        connection = connect(polling_interval=60)
        idle = Idle(connection, session, number)
        jobs = JobTable(session)
        spent = 0
        for job in range(JOBS):
            eventually(idle.is_asleep)
            before = statements_of_others(session)
            jobs.publisher.put(
                NewJob(f"q{job * 7 % number}", json.dumps({"task": "t", "args": [job]}))
            )
            idle.take(job + 1)
            eventually(idle.is_asleep)
            spent += statements_of_others(session) - before
        connection.release()
        return spent / JOBS

    return measure


def test_a_job_costs_the_same_with_300_queues_as_with_one(cost: Callable[[int], float]) -> None:
    one, many = cost(1), cost(300)
    assert many <= one + 4, f"{one} statements a job with one queue, {many} with 300"


def test_many_names_of_queues_fit_into_the_list_of_consumers(session: Session) -> None:
    names = [f"{'queue' * 12}-{number}" for number in range(3000)]
    Registry(session).add(ME, "worker", names)
    Registry(session).set_queues(ME, names)
    (one,) = Inspection(session).consumers()
    assert set(one.queues) == set(names)


def test_which_of_many_queues_have_something_to_take(session: Session) -> None:
    names = [f"q{number}" for number in range(1000)]
    jobs = JobTable(session)
    jobs.publisher.put(NewJob("q7", "x"))
    jobs.publisher.put(NewJob("q8", "scheduled", delay=600))
    jobs.publisher.put(NewJob("q9", "paused"))
    session.execute("INSERT INTO jobs_queues (queue, paused_at) VALUES ('q9', NOW())")
    session.execute(
        "INSERT INTO jobs_ephemeral_messages (queue, claim_order, message) VALUES ('q3', 9, 'x')"
    )
    work = Work(session)
    assert work.with_jobs(names) == {"q7"}
    assert work.with_messages(names) == {"q3"}
    for jobs_in, messages_in, is_any in (
        (names, [], 1),
        ([], names, 1),
        (["q8", "q9"], ["q7"], 0),
        ([], [], 0),
    ):
        sql, values = work.is_any(jobs_in, messages_in)
        assert session.value(f"SELECT {sql}", values) == is_any


def test_all_consumers_that_sleep_are_rung_for_many_queues(
    session: Session, connect: Callable[..., Connection]
) -> None:
    idle = Idle(connect(polling_interval=60), session, 1)
    eventually(idle.is_held)
    session.execute("INSERT INTO jobs (message, queue) VALUES (%s, 'q0')", ('{"task": "t"}',))
    JobTable(session).ringer.ring_each({f"q{number}" for number in range(500)})
    idle.take(1)
