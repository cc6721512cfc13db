"""The buffer of claimed jobs, with any sequence of events, beside a model of the table."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from celery_mysqllock.exceptions import ConnectionLost
from celery_mysqllock.jobs.buffer import FetchBuffer, Turn
from celery_mysqllock.jobs.job import ClaimedJob, Settlement

if TYPE_CHECKING:
    from collections.abc import Iterator

QUEUES = ("a", "b", "c")
CLAIM_LIMIT = 5
MOST = 3
# What a settlement may say of a job, by what its consumer has said.
ALLOWED = {
    "ack": {"acked"},
    "release": {"released", "deferred"},
    "requeue": {"deferred", "buried"},
    "defer": {"deferred"},
    "bury": {"buried"},
}


@dataclass
class Row:
    """A row of the table."""

    id: int
    queue: str
    recoveries: int = 0
    deliveries: int = 0
    state: str = "queued"
    # of the claim: which one it is, whether its start was committed, what its consumer has said
    claim: int = 0
    is_started: bool = False
    said: str | None = None


def settlements(settlement: Settlement) -> Iterator[tuple[int, str]]:
    """What it says of each job, starts aside."""
    yield from ((job_id, "acked") for job_id in settlement.acked)
    yield from ((job_id, "released") for job_id in settlement.released)
    yield from ((job_id, "buried") for job_id, _ in settlement.buried)
    yield from ((job.job_id, "deferred") for job in settlement.deferred)


class BufferMachine(RuleBasedStateMachine):
    """A consumer, its buffer, and the table, of which the consumer is the only one."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.table: dict[int, Row] = {}
        self.claims = count(1)
        self.flight: Turn | None = None
        self.out: dict[int, float] = {}
        self.suspects_out: dict[int, bool] = {}
        self.queues: list[str] = list(QUEUES[:2])
        self.window = 3
        self.may_claim_ahead = True
        self.last_claim_taken = 0
        self.still_running: set[int] | None = None
        self.buffer = FetchBuffer(CLAIM_LIMIT, max_deliveries=MOST)
        self.buffer.set_window(self.window)
        self.buffer.consume(self.queues)
        self.buffer.run_in(lambda: 2)

    @property
    def is_closed(self) -> bool:
        return self.still_running is not None

    # -- the world --------------------------------------------------------------------------------

    @initialize(number=st.integers(0, 4), deliveries=st.integers(0, MOST - 1))
    def recover(self, number: int, deliveries: int) -> None:
        """Jobs have come back from a dead consumer."""
        self.publish("a", number, 1, deliveries)

    @rule(seconds=st.sampled_from([0.001, 0.006, 0.15, 0.6, 2.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(
        queue=st.sampled_from(QUEUES),
        number=st.integers(1, 8),
        recoveries=st.sampled_from([0, 0, 1]),
        deliveries=st.integers(0, MOST - 1),
    )
    def publish(self, queue: str, number: int, recoveries: int, deliveries: int) -> None:
        for _ in range(number):
            job_id = len(self.table) + 1
            self.table[job_id] = Row(job_id, queue, recoveries, deliveries if recoveries else 0)
        self.buffer.look([queue])

    # -- the fetcher ------------------------------------------------------------------------------

    @precondition(lambda self: self.flight is None)
    @rule()
    def begin_turn(self) -> None:
        self.flight = self.buffer.next_turn(self.now)
        # it never asks for a turn again and again
        assert self.flight is not None or self.buffer.wake_at(self.now) > self.now
        if self.flight is not None and self.flight.limit:
            settled = self.buffer.known_ids.union(self.flight.settlement.ids)
            held = [
                row
                for row in self.table.values()
                if row.state == "claimed" and row.id not in settled
            ]
            most = self.window + (CLAIM_LIMIT if self.may_claim_ahead else 0)
            assert len(held) + self.flight.limit <= most
            assert self.flight.limit <= CLAIM_LIMIT
            assert self.flight.queue in self.queues
            assert not self.is_closed

    @precondition(lambda self: self.flight is not None)
    @rule()
    def commit(self) -> None:
        turn, self.flight = self.flight, None
        assert turn is not None
        self.store(turn.settlement)
        self.buffer.settled(turn, self.claim(turn), self.now)
        if turn.settlement.released or turn.settlement.deferred:
            self.buffer.look(QUEUES)

    @precondition(lambda self: self.flight is not None)
    @rule()
    def roll_back(self) -> None:
        turn, self.flight = self.flight, None
        assert turn is not None
        self.buffer.failed(turn.settlement, self.now)

    @precondition(lambda self: self.flight is not None)
    @rule(data=st.data(), seconds=st.sampled_from([0.1, 1.0]))
    def find_some_locked(self, data: st.DataObject, seconds: float) -> None:
        assert self.flight is not None
        settlement = self.flight.settlement
        locked = data.draw(st.sets(st.sampled_from(settlement.ids))) if settlement.ids else set()
        self.buffer.postpone(settlement.only(locked), self.now + seconds)
        turn = self.flight
        self.flight = Turn(settlement.without(locked), turn.queue, turn.limit, turn.starts)

    @rule(turns=st.integers(1, 8))
    def work(self, turns: int) -> None:
        """Some turns in which nothing fails; the consumer takes what there is."""
        for _ in range(turns):
            if self.flight is not None:
                self.commit()
            self.take(10)
            self.now = max(self.now, min(self.buffer.wake_at(self.now), self.now + 0.3))
            self.begin_turn()

    def store(self, settlement: Settlement) -> None:
        for job_id in settlement.started:
            # one that was given back meanwhile has nothing to count
            if self.table[job_id].state == "claimed":
                self.table[job_id].is_started = True
                self.table[job_id].deliveries += 1
        for job_id, kind in settlements(settlement):
            row = self.table[job_id]
            # neither lost nor settled twice
            assert row.state == "claimed", (row, kind)
            assert kind in (ALLOWED[row.said] if row.said else {"released"}), (row, kind)
            states = {"acked": "done", "buried": "dead"}
            row.state, row.said = states.get(kind, "queued"), None
            self.out.pop(job_id, None)

    def claim(self, turn: Turn) -> list[ClaimedJob]:
        ready = [
            row for row in self.table.values() if (row.queue, row.state) == (turn.queue, "queued")
        ]
        claimed = []
        for place, row in enumerate(ready[: turn.limit]):
            row.state, row.claim = "claimed", next(self.claims)
            before = row.deliveries
            row.is_started = place < turn.starts and not row.recoveries
            row.deliveries += row.is_started
            claimed.append(self.job(row, before))
        return claimed

    def job(self, row: Row, deliveries: int) -> ClaimedJob:
        return ClaimedJob(
            row.id,
            "",
            row.queue,
            deliveries,
            datetime(2026, 1, 1),  # noqa: DTZ001 - as the driver reads it
            recoveries=row.recoveries,
            is_started=row.is_started,
        )

    # -- the consumer -----------------------------------------------------------------------------

    @rule(times=st.integers(1, 10))
    def take(self, times: int) -> None:
        for _ in range(times):
            could = self.buffer.can_take(self.now)
            job = self.buffer.take(self.now)
            assert (job is not None) == could
            if job is None:
                return
            self.check_taken(job)

    def check_taken(self, job: ClaimedJob) -> None:
        row = self.table[job.id]
        assert row.state == "claimed"
        assert job.id not in self.out
        assert row.said is None
        assert len(self.out) < self.window
        assert not self.is_closed
        assert job.queue in self.queues
        self.suspects_out = {
            job_id: is_last for job_id, is_last in self.suspects_out.items() if job_id in self.out
        }
        if job.recoveries:
            # its start is committed, and it is alone for its first second; or altogether
            assert job.is_started
            assert row.is_started
            is_last = job.deliveries + 1 >= MOST
            for other, other_is_last in self.suspects_out.items():
                assert self.now >= self.out[other] + 1.0
                assert not is_last
                assert not other_is_last
            self.suspects_out[job.id] = is_last
        else:
            assert row.claim > self.last_claim_taken
            self.last_claim_taken = row.claim
        self.out[job.id] = self.now

    def settleable(self) -> list[int]:
        return sorted(self.out if self.still_running is None else self.still_running)

    @precondition(lambda self: self.settleable())
    @rule(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        self.buffer.begin(data.draw(st.sampled_from(self.settleable())), self.now)

    @precondition(lambda self: self.settleable())
    @rule(data=st.data(), what=st.sampled_from(["ack", "ack", "ack", *ALLOWED]))
    def settle(self, data: st.DataObject, what: str) -> None:
        self.say(data.draw(st.sampled_from(self.settleable())), what)

    def say(self, job_id: int, what: str) -> None:
        arguments: dict[str, tuple[Any, ...]] = {
            "requeue": (lambda: "",),
            "defer": (1.0,),
            "bury": ("",),
        }
        getattr(self.buffer, what)(job_id, *arguments.get(what, ()), self.now)
        self.table[job_id].said = what
        self.out.pop(job_id, None)
        if self.still_running is not None:
            self.still_running.discard(job_id)

    @precondition(lambda self: not self.is_closed)
    @rule(window=st.integers(0, 6), ahead=st.booleans())
    def set_window(self, window: int, *, ahead: bool) -> None:
        self.window, self.may_claim_ahead = window, ahead
        self.buffer.set_window(window, ahead=ahead)

    @precondition(lambda self: not self.is_closed)
    @rule(queues=st.lists(st.sampled_from(QUEUES), unique=True))
    def consume(self, queues: list[str]) -> None:
        left = set(self.queues) - set(queues)
        self.queues = queues
        self.buffer.consume(queues)
        for queue in left:
            self.buffer.withdraw(queue)

    @precondition(lambda self: not self.is_closed)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        if not data.draw(st.integers(0, 3)):
            kept = data.draw(st.sets(st.sampled_from(sorted(self.out)))) if self.out else set()
            self.end(kept)

    def end(self, still_running: set[int]) -> None:
        for job_id in set(self.out) - still_running:
            self.say(job_id, "release")
        self.buffer.close(still_running, self.now)
        self.still_running = set(still_running)

    # -- the end ----------------------------------------------------------------------------------

    def teardown(self) -> None:
        if self.flight is not None:
            self.commit()
        if not self.is_closed:
            if len(self.table) % 2:
                self.run_dry()
            self.end(set())
        for job_id in self.settleable():
            self.say(job_id, "ack")
        self.run()
        assert self.buffer.is_finished
        assert [row for row in self.table.values() if row.state == "claimed"] == []

    def run_dry(self) -> None:
        """A consumer that acknowledges what it gets gets all that there is."""
        self.set_window(2, ahead=True)
        self.buffer.look(QUEUES)
        for job_id in list(self.out):
            self.say(job_id, "ack")
        self.run()
        assert not [
            row
            for row in self.table.values()
            if row.queue in self.queues and row.state in ("queued", "claimed")
        ]
        assert self.buffer.is_drained == bool(self.queues)

    def run(self) -> None:
        for _ in range(1000):
            self.take(10)
            for job_id in list(self.out):
                self.say(job_id, "ack")
            wake_at = self.buffer.wake_at(self.now)
            if wake_at == float("inf"):
                return
            self.now = max(self.now, wake_at)
            self.begin_turn()
            if self.flight is not None:
                self.commit()
        raise AssertionError("It does not come to rest.")


TestBuffer = BufferMachine.TestCase
TestBuffer.settings = settings(
    max_examples=200, stateful_step_count=40, deadline=None, derandomize=True
)


def claimed(job_id: int, **fields: Any) -> ClaimedJob:
    created_at = datetime(2026, 1, 1)  # noqa: DTZ001 - as the driver reads it
    return ClaimedJob(job_id, "", "a", 0, created_at, **fields)


@pytest.fixture
def buffer() -> FetchBuffer:
    """A buffer with four of a window of four out, and nothing to settle."""
    buffer = FetchBuffer(CLAIM_LIMIT)
    buffer.set_window(4, ahead=False)
    buffer.consume(["a"])
    turn = buffer.next_turn(100.0)
    assert turn is not None
    assert (turn.queue, turn.limit) == ("a", 4)
    buffer.settled(turn, [claimed(number) for number in range(4)], 100.0)
    for number in range(4):
        job = buffer.take(100.0)
        assert job is not None
        assert job.id == number
    return buffer


def test_acks_gather_for_a_moment_while_other_jobs_are_out(buffer: FetchBuffer) -> None:
    buffer.ack(0, 100.0)
    assert buffer.wake_at(100.0) == pytest.approx(100.005)
    buffer.ack(1, 100.003)
    # half of the window is free: that is worth a transaction
    assert buffer.wake_at(100.003) == 100.003
    turn = buffer.next_turn(100.003)
    assert turn is not None
    assert (turn.settlement.acked, turn.limit) == ([0, 1], 2)


def test_a_delivery_is_written_when_the_job_has_run_for_a_moment(buffer: FetchBuffer) -> None:
    buffer.begin(2, 100.0)
    assert buffer.wake_at(100.0) == pytest.approx(100.2)
    turn = buffer.next_turn(100.2)
    assert turn is not None
    assert turn.settlement == Settlement(started=[2])


def test_what_was_not_running_cannot_be_settled_after_the_end(buffer: FetchBuffer) -> None:
    buffer.close([1], 100.0)
    with pytest.raises(ConnectionLost):
        buffer.ack(0, 100.0)
    buffer.ack(1, 200.0)
    turn = buffer.next_turn(200.0)
    assert turn is not None
    assert turn.settlement.acked == [1]
    buffer.settled(turn, (), 200.0)
    assert buffer.is_finished


def test_a_halted_buffer_claims_nothing_and_settles_all(buffer: FetchBuffer) -> None:
    buffer.halt()
    for number in range(4):
        buffer.ack(number, 100.0)
    turn = buffer.next_turn(100.0)
    assert turn is not None
    assert (turn.queue, turn.settlement.acked) == (None, [0, 1, 2, 3])


def test_the_end_of_an_ordered_job_looks_for_the_next_of_its_key() -> None:
    buffer = FetchBuffer(CLAIM_LIMIT)
    buffer.set_window(1, ahead=False)
    buffer.consume(["a"])
    turn = buffer.next_turn(100.0)
    assert turn is not None
    buffer.settled(turn, [claimed(1, order_key="key")], 100.0)
    assert buffer.take(100.0) is not None
    # it is full, and then there is nothing left as far as is known
    assert buffer.next_turn(100.0) is None
    buffer.consume([])
    buffer.consume(["a"])
    buffer.narrow(["a"], [])
    buffer.ack(1, 100.0)
    turn = buffer.next_turn(100.0)
    assert turn is not None
    assert (turn.settlement.ended_keys, turn.queue, turn.limit) == ({1: "key"}, "a", 1)


def test_a_queue_that_is_left_while_it_is_claimed_from_gets_its_jobs_back() -> None:
    buffer = FetchBuffer(CLAIM_LIMIT)
    buffer.set_window(4)
    buffer.consume(["a"])
    turn = buffer.next_turn(100.0)
    assert turn is not None
    buffer.consume([])
    buffer.withdraw("a")
    buffer.settled(turn, [claimed(1), claimed(2)], 100.0)
    assert not buffer.can_take(100.0)
    turn = buffer.next_turn(100.0)
    assert turn is not None
    assert turn.settlement.released == [1, 2]


def test_acks_are_kept_when_the_consumer_cannot_say_how_many_slots_it_has(
    buffer: FetchBuffer,
) -> None:
    def slots() -> int:
        raise AttributeError("the pool is gone")

    buffer.ack(0, 100.0)
    buffer.run_in(slots)
    with pytest.raises(AttributeError):
        buffer.next_turn(101.0)
    buffer.halt()
    turn = buffer.next_turn(102.0)
    assert turn is not None
    assert turn.settlement.acked == [0]
