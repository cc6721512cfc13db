"""A beat dies, or loses its session, at any point of a tick: it is sent once all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from celery_mysqllock.jobs import LockNames, Publisher, Schedule
from celery_mysqllock.jobs.ringer import Ringer
from celery_mysqllock.mysql import Session, get_lock, own_lock_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.beat.conftest import InProcess, Sent

EVERY = 0.3
CONFIG = {"tick": {"task": "tick", "schedule": EVERY, "args": ["tick"]}}


class Point(NamedTuple):
    """A step of a tick, and whether its job is there when it is cut short after it."""

    kind: type
    step: str
    is_sent: bool


POINTS = [
    Point(Publisher, "store", is_sent=False),
    Point(Schedule, "mark_sent", is_sent=False),
    Point(Ringer, "ring_each", is_sent=True),
]


class Power(BaseException):
    """The beat dies at this point."""


def after(point: Point, then: Callable[[], None], patch: pytest.MonkeyPatch) -> None:
    """Have something happen once a step is done, the first time."""
    real = getattr(point.kind, point.step)
    happened: list[bool] = []

    def stepped(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = real(self, *args, **kwargs)
        if not happened:
            happened.append(True)
            then()
        return result

    patch.setattr(point.kind, point.step, stepped)


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.step)
def test_a_beat_that_dies_leaves_a_tick_sent_or_not_but_not_half(
    scheduler: Callable[..., InProcess],
    sent: Sent,
    monkeypatch: pytest.MonkeyPatch,
    point: Point,
) -> None:
    def die() -> None:
        raise Power

    first = scheduler(CONFIG)
    after(point, die, monkeypatch)
    with pytest.raises(Power):
        first.turns(lambda: False)
    first.close()
    assert sent("tick") == len(sent.due_times("tick")) == int(point.is_sent)
    second = scheduler(CONFIG)
    second.turns(lambda: sent("tick") >= 3)
    sent.assert_each_tick_once("tick", EVERY)


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.step)
def test_a_session_that_is_killed_takes_its_tick_with_it(
    session: Session,
    scheduler: Callable[..., InProcess],
    sent: Sent,
    monkeypatch: pytest.MonkeyPatch,
    point: Point,
) -> None:
    seen: list[int] = []

    def kill() -> None:
        lock = LockNames.of(session, "jobs").beat
        session.execute("KILL %s", (session.value("SELECT IS_USED_LOCK(%s)", (lock,)),))
        seen.append(sent("tick"))

    beat = scheduler(CONFIG)
    after(point, kill, monkeypatch)
    beat.turns(lambda: sent("tick") >= 3)
    assert seen == [int(point.is_sent)]
    sent.assert_each_tick_once("tick", EVERY)


def test_without_its_lock_a_beat_sends_nothing_though_its_session_lives(
    session: Session,
    scheduler: Callable[..., InProcess],
    sent: Sent,
    caplog: pytest.LogCaptureFixture,
) -> None:
    beat = scheduler(CONFIG)
    beat.turns(lambda: sent("tick") >= 1)
    lock = beat.scheduler._lock  # noqa: SLF001 - nobody else can free it and leave the session
    assert lock is not None
    with Session(session.address) as other:
        assert lock.session.value("SELECT RELEASE_LOCK(%s)", (lock.name,)) == 1
        assert get_lock(other, lock.name, 0)
        so_far = sent("tick")
        beat.turns(lambda: "lost its lock" in caplog.text)
        beat.look()
        assert sent("tick") == so_far
    beat.turns(lambda: sent("tick") > so_far + 1)
    sent.assert_each_tick_once("tick", EVERY)


def test_two_that_both_believe_to_be_active_send_each_tick_once(
    scheduler: Callable[..., InProcess], sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if a server gave one lock to two sessions: what is left is the ticks' own key."""
    first = scheduler(CONFIG)
    first.turns(lambda: sent("tick") >= 1)
    monkeypatch.setattr(LockNames, "beat", own_lock_name("another", "beat"))
    second = scheduler(CONFIG)
    second.turns(lambda: sent("tick") >= 2)
    for _ in range(20):
        so_far = sent("tick")
        first.scheduler.tick()
        second.turns(lambda so_far=so_far: sent("tick") > so_far)  # type: ignore[misc]
    sent.assert_each_tick_once("tick", EVERY)
