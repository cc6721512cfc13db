"""The schedule in MySQL, the tasks in another broker."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from kombu import Connection

from celery_mysqllock.exceptions import SettingsError
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from celery_mysqllock.mysql import Session
    from tests.beat.beat import Beat
    from tests.beat.conftest import InProcess, Sent


class Power(BaseException):
    """The beat dies at this point."""


def dies(*_: Any, **__: Any) -> None:
    raise Power


def received(broker: str = "memory://") -> list[str]:
    """Take all messages; the names of their entries."""
    names: list[str] = []
    with Connection(broker) as connection:
        queue = connection.SimpleQueue("celery")
        while True:
            try:
                message = queue.get_nowait()
            except queue.Empty:
                return names
            names.append(message.decode()[0][0])
            message.ack()


@pytest.fixture
def ticking(session: Session, scheduler: Callable[..., InProcess]) -> Callable[[], InProcess]:
    """Makes a scheduler that sends one task into a broker in memory."""
    received()

    def make() -> InProcess:
        config = {"tick": {"task": "tick", "schedule": 0.3, "args": ["tick"]}}
        return scheduler(config, "memory://", mysqllock_url=session.address.url())

    return make


def test_each_tick_is_sent_into_the_broker_and_marked(
    ticking: Callable[[], InProcess], sent: Sent
) -> None:
    beat = ticking()
    beat.turns(lambda: len(sent.due_times("tick")) >= 3)
    assert received() == ["tick"] * len(sent.due_times("tick"))


def test_a_tick_whose_beat_died_between_claim_and_mark_is_not_sent_again(
    session: Session,
    ticking: Callable[[], InProcess],
    sent: Sent,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = ticking()
    monkeypatch.setattr(first.scheduler, "apply_async", dies)
    with pytest.raises(Power):
        first.turns(lambda: False)
    first.close()
    second = ticking()
    second.turns(lambda: len(sent.due_times("tick")) >= 2)
    assert len(received()) == len(sent.due_times("tick"))
    assert "died while it sent tick due at" in caplog.text
    (unsure,) = session.query("SELECT reason FROM jobs_ticks WHERE sent_at IS NULL")
    assert "may have been sent" in unsure[0]


def test_a_tick_that_the_broker_refuses_is_over_and_the_next_is_sent(
    session: Session,
    ticking: Callable[[], InProcess],
    sent: Sent,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    beat = ticking()
    with monkeypatch.context() as patch:
        patch.setattr(beat.scheduler, "apply_async", lambda *_, **__: 1 / 0)
        beat.turns(lambda: session.value("SELECT COUNT(*) FROM jobs_ticks"))
    beat.turns(lambda: len(sent.due_times("tick")) >= 2)
    reasons = session.query("SELECT DISTINCT reason FROM jobs_ticks WHERE sent_at IS NULL")
    assert reasons == [("division by zero",)]


def test_beats_that_are_killed_double_nothing(
    session: Session, start_beat: Callable[..., Beat], sent: Sent, tmp_path: Path
) -> None:
    folder = tmp_path / "messages"
    folder.mkdir()
    config = {
        "broker": "filesystem://",
        "broker_transport_options": {
            "data_folder_in": str(folder),
            "data_folder_out": str(folder),
            "control_folder": str(tmp_path / "control"),
        },
        "mysqllock_url": session.address.url(),
    }
    beats = [start_beat(f"beat-{at}", {"tick": 0.2}, **config) for at in range(3)]
    for _ in range(2):
        so_far = len(sent.due_times("tick"))
        eventually(lambda so_far=so_far: len(sent.due_times("tick")) > so_far + 3)  # type: ignore[misc]
        active = max(beats, key=lambda beat: beat.log.count("Sending due task"))
        active.kill()
        beats.remove(active)
    so_far = len(sent.due_times("tick"))
    eventually(lambda: len(sent.due_times("tick")) > so_far + 3)
    beats[0].kill()
    claimed = session.value("SELECT COUNT(*) FROM jobs_ticks")
    marked = len(sent.due_times("tick"))
    messages = Counter(path.suffix for path in folder.iterdir())[".msg"]
    assert marked <= messages <= claimed


def test_no_database_anywhere_is_an_error_that_says_what_to_set(
    scheduler: Callable[..., InProcess],
) -> None:
    with pytest.raises(SettingsError, match="mysqllock_url"):
        scheduler(broker="memory://")
    with pytest.raises(SettingsError, match="keeps its schedule in a database"):
        scheduler(broker="memory://", mysqllock_url="memory://")
    with pytest.raises(SettingsError, match="mysqllock_beat_catch_up=-1"):
        scheduler(mysqllock_beat_catch_up=-1)
