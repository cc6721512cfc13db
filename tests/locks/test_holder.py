"""What is told of a holder, and how its card is written into names of locks."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.locks.card import Card, read_card, write_card
from celery_mysqllock.locks.holder import Holder, Process
from celery_mysqllock.mysql import Address, Session, get_lock
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.locks.conftest import Hold, MakeMySQLLock

_SINCE = datetime(2026, 11, 23, 12, 0, 1, tzinfo=UTC)


@pytest.fixture
def other(url: str) -> Iterator[Session]:
    """A session that shows cards."""
    with Session(Address.parse(url)) as session:
        yield session


@pytest.mark.parametrize(
    "card",
    [
        Card(4711, "celery", "worker-1.example", _SINCE, "3f2b1c9e-77aa-4d0e-8f5e-0a1b2c3d4e5f"),
        Card(None, None, None, _SINCE, None),
        Card(4711, "celery", "worker-1", _SINCE, "a note", "shop:task:rebuild:7"),
        Card(2**22, "p" * 16, "h" * 32, _SINCE, "n" * 64, "~" * 64),
        Card(1, "ü\U0001f512", "größe", _SINCE, "a note"),
        Card(2**22, "x", "y", _SINCE, "\x00\x01 'quotes' 100 %s"),
    ],
)
def test_a_card_is_read_as_it_was_written(session: Session, other: Session, card: Card) -> None:
    assert read_card(session, other.connection_id) is None
    other.execute(write_card(other.connection_id, card))
    assert read_card(session, other.connection_id) == card
    assert read_card(session, session.connection_id) is None
    other.value("SELECT RELEASE_ALL_LOCKS()")
    assert read_card(session, other.connection_id) is None


def test_what_is_too_long_is_cut(session: Session, other: Session) -> None:
    long = Card(4711, "p" * 500, "h" * 500, _SINCE, "ü" * 500)
    other.execute(write_card(other.connection_id, long))
    card = read_card(session, other.connection_id)
    assert card == Card(4711, "p" * 16, "h" * 32, _SINCE, "ü" * 32)


def test_a_card_that_is_not_whole_is_not_believed(session: Session, other: Session) -> None:
    card = Card(4711, "celery", "worker-1", _SINCE, "a note")
    other.execute(write_card(other.connection_id, card))
    statement = write_card(other.connection_id, card)
    last = statement.rpartition("GET_LOCK(")[2].split(",")[0].strip("'")
    other.value("SELECT RELEASE_LOCK(%s)", (last,))
    assert read_card(session, other.connection_id) is None


def test_another_process_is_told_with_its_pid_note_and_time(
    mysql_lock: MakeMySQLLock, hold: Hold, url: str
) -> None:
    process = hold(note="3f2b1c9e-77aa-4d0e-8f5e-0a1b2c3d4e5f")
    lock = mysql_lock()
    eventually(lambda: (holder := lock.holder()) and holder.note)
    holder = lock.holder()
    assert holder is not None
    assert holder.process is not None
    assert holder.process.pid == process.pid
    assert holder.process.hostname == os.uname().nodename[:32]
    assert holder.note == "3f2b1c9e-77aa-4d0e-8f5e-0a1b2c3d4e5f"
    assert holder.since is not None
    assert abs((datetime.now(UTC) - holder.since).total_seconds()) < 30
    assert holder.user == Address.parse(url).user
    assert holder.host is not None


def test_the_next_holder_on_the_same_session_has_a_card_of_its_own(
    mysql_lock: MakeMySQLLock,
) -> None:
    looker = mysql_lock()
    ids = set()
    for note in ("first", "second"):
        with mysql_lock(note=note):
            eventually(lambda note=note: (h := looker.holder()) and h.note == note)  # type: ignore[misc]
            holder = looker.holder()
            assert holder is not None
            ids.add(holder.connection_id)
    assert len(ids) == 1
    with mysql_lock(note="third"):
        holder = looker.holder()
        assert holder is not None
        assert holder.note in (None, "third")


def test_a_holder_that_is_another_program_is_told_as_far_as_possible(
    mysql_lock: MakeMySQLLock, other: Session
) -> None:
    lock = mysql_lock()
    assert get_lock(other, lock.name, 0)
    holder = lock.holder()
    assert holder is not None
    assert holder.connection_id == other.connection_id
    assert holder.user == other.address.user
    assert holder.note is None
    assert holder.since is None
    if not other.server.is_mariadb:
        assert holder.process is not None
        assert holder.process.pid == os.getpid()


def test_a_holder_reads_as_a_sentence() -> None:
    assert str(Holder(7, "shop:it")) == "session 7"
    process = Process(4711, "celery", "worker-1")
    holder = Holder(7, "shop:it", "jane", "10.0.0.1:5555", process, "task 1", _SINCE)
    assert str(holder) == (
        "session 7, of jane from 10.0.0.1:5555, process celery[4711]@worker-1, note 'task 1', "
        "since 2026-11-23 12:00:01 UTC"
    )
    assert str(Process()) == "process[?]@?"
