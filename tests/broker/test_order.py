"""``on_conflict="queue"``: real workers run the jobs of one key one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from celery import Celery, chain, group

from celery_mysqllock import single_instance
from celery_mysqllock.exceptions import SettingsError
from celery_mysqllock.mysql import Session, lock_name
from tests.broker.app import (
    clinging,
    hopeless,
    note,
    ordered,
    ordered_once,
    ordered_until_done,
    paired,
    stumbling,
)
from tests.broker.test_worker import await_ledger, ledger
from tests.broker.worker import POOLS
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kombu import Connection

    from tests.broker.worker import Worker

pytestmark = pytest.mark.usefixtures("producer_url")


def of_key(session: Session, key: str) -> list[str]:
    """What the ledger says of the jobs of a key."""
    return [entry for entry in ledger(session) if f"{key}/" in entry]


def in_order(key: str, jobs: int) -> list[str]:
    return [f"{what} {key}/{number}" for number in range(jobs) for what in ("begin", "end")]


def await_end(session: Session, within: float = 60) -> None:
    eventually(lambda: session.query("SELECT id FROM jobs") == [], within, "the last job's end")


@pytest.fixture
def outsider(session: Session) -> Iterator[Callable[[str, str], Session]]:
    """Holds the lock of a task and key from outside of the line, until the session is closed."""
    opened: list[Session] = []

    def hold(task: str, key: str) -> Session:
        holder = Session(session.address).open()
        opened.append(holder)
        name = lock_name(session.address.database, f'task:{task}:{{"key":"{key}"}}')
        assert holder.value("SELECT GET_LOCK(%s, 0)", (name,)) == 1
        return holder

    yield hold
    for holder in opened:
        holder.close()


@pytest.mark.parametrize("pool", POOLS)
def test_jobs_of_a_key_run_in_order_and_never_at_once(
    session: Session, start_worker: Callable[..., Worker], pool: str
) -> None:
    for number in range(5):
        for key in ("a", "b", "c"):
            ordered.delay(key, number, 0.02)
    for _ in range(2):
        start_worker("--pool", pool)
    await_end(session)
    for key in ("a", "b", "c"):
        assert of_key(session, key) == in_order(key, 5)


def test_other_keys_flow_past_one_that_is_at_work(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    start_worker()
    for number in range(20):
        ordered.delay("slow", number, 600)
    eventually(lambda: ledger(session) == ["begin slow/0"])
    for number in range(5):
        ordered.delay("quick", number)
        note.delay(f"unkeyed {number}")
    expected = [*in_order("quick", 5), *(f"unkeyed {number}" for number in range(5))]
    await_ledger(session, ["begin slow/0", *expected])
    assert of_key(session, "quick") == in_order("quick", 5)


def test_as_many_as_the_limit_run_at_once(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    for number in range(6):
        paired.delay("p", number, 0.3)
    for _ in range(2):
        start_worker()
    await_end(session)
    running, most = 0, 0
    for entry in ledger(session):
        running += 1 if entry.startswith("begin") else -1
        most = max(most, running)
    assert most == 2
    begun = [entry for entry in ledger(session) if entry.startswith("begin")]
    assert sorted(begun) == [f"begin p/{number}" for number in range(6)]


def test_a_killed_worker_leaves_the_order_as_it_is(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    victim = start_worker()
    for number in range(5):
        clinging.delay("k", number)
    eventually(lambda: "begin k/1" in ledger(session))
    start_worker()
    victim.kill()
    await_end(session)
    assert ledger(session) == [*in_order("k", 1), "begin k/1", *in_order("k", 5)[2:]]


def test_a_job_whose_lock_an_outsider_has_keeps_its_place(
    session: Session,
    start_worker: Callable[..., Worker],
    outsider: Callable[[str, str], Session],
) -> None:
    holder = outsider("ordered", "k")
    worker = start_worker()
    for number in range(3):
        ordered.delay("k", number)
    aside = "SELECT COUNT(*) FROM jobs WHERE job_status = 2"
    eventually(lambda: session.value(aside) == 1, what="a job that is put aside")
    ordered.delay("other", 0)
    await_ledger(session, in_order("other", 1))
    holder.close()
    await_end(session)
    assert of_key(session, "k") == in_order("k", 3)
    assert "is held by" in worker.log


def test_autoretry_leaves_a_job_whose_lock_an_outsider_has_in_its_place(
    session: Session,
    start_worker: Callable[..., Worker],
    outsider: Callable[[str, str], Session],
) -> None:
    holder = outsider("hopeless", "k")
    start_worker()
    for number in range(2):
        hopeless.delay("k", number)
    aside = "SELECT id FROM jobs WHERE job_status = 2"
    eventually(lambda: session.value(aside) == 1, what="a job that is put aside")
    holder.close()
    await_end(session)
    assert ledger(session) == ["k/0", "k/1"]


def test_a_retry_joins_at_the_end(session: Session, start_worker: Callable[..., Worker]) -> None:
    for number in range(3):
        stumbling.delay("k", number)
    start_worker()
    await_end(session)
    assert ledger(session) == [f"k/{number}" for number in (0, 1, 2, 0, 1, 2)]


def test_the_parts_of_a_canvas_join_the_line(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    ordered.delay("k", 0, 0.2)
    group(ordered.si("k", number, 0.2) for number in (1, 2)).delay()
    chain(note.si("between"), ordered.si("k", 3), ordered.si("k", 4)).delay()
    for _ in range(2):
        start_worker()
    await_end(session)
    assert of_key(session, "k") == in_order("k", 5)


def test_a_delayed_job_joins_when_it_is_due(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    ordered.apply_async(("k", 1), countdown=1)
    ordered.delay("k", 0)
    start_worker()
    await_end(session)
    assert ledger(session) == in_order("k", 2)


@pytest.mark.parametrize("options", ['{"retention": "1d"}', '{"claim_method": "compare_and_set"}'])
def test_order_holds_with_retention_and_with_each_way_to_claim(
    session: Session, start_worker: Callable[..., Worker], options: str
) -> None:
    for number in range(5):
        ordered.delay("k", number)
    for _ in range(2):
        start_worker(BROKER_OPTIONS=options)
    expected = in_order("k", 5)
    eventually(lambda: len(ledger(session)) == len(expected))
    assert ledger(session) == expected


def test_a_job_that_was_deleted_by_hand_holds_nobody_up(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    for number in range(3):
        ordered.delay("k", number)
    session.execute("DELETE FROM jobs WHERE job_status = 0")
    start_worker()
    await_end(session)
    assert ledger(session) == in_order("k", 3)[2:]


def test_a_message_can_be_given_back_for_a_while(
    session: Session, connect: Callable[..., Connection]
) -> None:
    with connect().SimpleQueue("q") as queue:
        for text in ("one", "two"):
            queue.put(text)
        one = queue.get(timeout=10)
        one.reject(requeue=30.0)
        two = queue.get(timeout=10)
        assert two.payload == "two"
        two.ack()
        due_in = "SELECT TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(6), due_at) FROM jobs"
        seconds = eventually(lambda: session.value(due_in), what="a job that is put aside")
        assert 20 <= seconds <= 30
        session.execute("UPDATE jobs SET due_at = UTC_TIMESTAMP(6)")
        again = queue.get(timeout=20)
        assert again.payload == "one"
        again.ack()


def test_one_waits_while_another_runs_where_the_task_is_unique_too(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    start_worker()
    ordered_once.delay("k", 0, 2.0)
    eventually(lambda: ledger(session) == ["begin k/0"])
    waiting, same = ordered_once.delay("k", 1), ordered_once.delay("k", 2)
    assert same.id == waiting.id
    await_end(session)
    assert ledger(session) == in_order("k", 2)


def test_an_ordered_task_may_be_unique_until_it_is_done(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    one, same = ordered_until_done.delay("k"), ordered_until_done.delay("k")
    assert same.id == one.id
    start_worker()
    await_end(session)
    assert ledger(session) == ["k"]


def test_the_key_is_in_the_row(session: Session) -> None:
    ordered.delay("k", 0)
    ordered.apply_async(kwargs={"key": "k", "number": 1})
    ordered.delay("other", 0)
    paired.delay("k", 0)
    rows = session.query("SELECT order_key, order_limit, job_status FROM jobs ORDER BY id")
    one, two, other, pair = rows
    assert (one[0].startswith("task:ordered:"), *one[1:]) == (True, 1, 0)
    assert two == (one[0], 1, 4)
    assert other[0] != one[0]
    assert pair[1:] == (2, 0)


def test_another_broker_is_refused_when_the_task_is_sent() -> None:
    app = Celery("elsewhere", broker="memory://", set_as_current=False)

    @app.task(name="elsewhere.ordered", shared=False)
    @single_instance(on_conflict="queue")
    def task() -> None: ...

    with pytest.raises(SettingsError, match=r'elsewhere\.ordered has on_conflict="queue".*memory'):
        task.delay()
