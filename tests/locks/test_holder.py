"""What is told of a holder, by itself and by the server."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.locks.holder import (
    NO_INTRODUCTION,
    Holder,
    Process,
    introduction,
    read_holder,
)
from celery_mysqllock.mysql import Address, Session, get_lock
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.locks.conftest import Hold, MakeMySQLLock

_SINCE = datetime(2026, 11, 23, 12, 0, 1, tzinfo=UTC)


@pytest.fixture
def url(telling_url: str) -> str:
    """A database on a server that shows what sessions tell of themselves."""
    return telling_url


@pytest.fixture
def other(url: str) -> Iterator[Session]:
    """A session that holds a lock."""
    with Session(Address.parse(url)) as session:
        get_lock(session, "shop:it", 0)
        yield session


@pytest.mark.parametrize(
    ("note", "told"),
    [
        ("3f2b1c9e-77aa-4d0e-8f5e-0a1b2c3d4e5f", None),
        (None, None),
        ("", ""),
        ("ü\U0001f512 größe", None),
        ("\x00\x01 'quotes' 100 %s \\", None),
        ("ü" * 500, "ü" * 200),
    ],
    ids=["id", "none", "empty", "not ASCII", "special", "long"],
)
def test_an_introduction_is_read_as_it_was_written(
    session: Session, other: Session, note: str | None, told: str | None
) -> None:
    plain = read_holder(session, other.connection_id, "shop:it")
    assert (plain.note, plain.since) == (None, None)
    other.execute(introduction("shop:it", note, _SINCE))
    holder = read_holder(session, other.connection_id, "shop:it")
    assert (holder.note, holder.since) == (note if told is None else told, _SINCE)
    assert holder.process is not None
    assert holder.process.pid == os.getpid()
    assert read_holder(session, session.connection_id, "shop:it").since is None
    other.execute(NO_INTRODUCTION)
    assert read_holder(session, other.connection_id, "shop:it") == plain


def test_an_introduction_for_another_lock_is_not_believed(session: Session, other: Session) -> None:
    other.execute(introduction("shop:another", "a note", _SINCE))
    assert read_holder(session, other.connection_id, "shop:it").note is None


@pytest.mark.parametrize(
    "text",
    [
        "nothing",
        "7",
        "[]",
        "{}",
        '{"lock": "shop:it"}',
        '{"lock": "shop:it", "pid": "x", "program": 1, "hostname": 1, "note": 7, "since": 1}',
        '{"lock": "shop:it", "pid": 1, "program": 1, "hostname": 1, "note": 7, "since": 1e99}',
        '{"lock": "shop:it", "pid": 1, "program": 1, "hostname": 1, "note": 7, "since": "x"}',
        '{"lock": "shop:it", "pid": null, "program": 1, "hostname": 1, "note": 7, "since": 1}',
    ],
)
def test_an_introduction_of_another_program_is_none(
    text: str, session: Session, other: Session
) -> None:
    other.execute("SET @mysqllock_holder = %s", (text,))
    holder = read_holder(session, other.connection_id, "shop:it")
    assert (holder.note, holder.since) == (None, None)


def test_bytes_that_are_no_text_are_none(session: Session, other: Session) -> None:
    other.execute("SET @mysqllock_holder = x'FFFE00'")
    assert read_holder(session, other.connection_id, "shop:it").since is None


def test_a_holder_takes_no_further_lock(mysql_lock: MakeMySQLLock, session: Session) -> None:
    looker = mysql_lock()
    with mysql_lock(note="one"):
        eventually(lambda: (h := looker.holder()) and h.note)
        count = session.value(
            "SELECT COUNT(*) FROM performance_schema.metadata_locks AS locks "
            "WHERE OBJECT_TYPE = 'USER LEVEL LOCK' AND OWNER_THREAD_ID = "
            "(SELECT OWNER_THREAD_ID FROM performance_schema.metadata_locks "
            "WHERE OBJECT_TYPE = 'USER LEVEL LOCK' AND OBJECT_NAME = %s)",
            (looker.name,),
        )
        assert count == 1


def test_a_user_without_a_privilege_is_told_the_session_and_no_more(
    mysql_lock: MakeMySQLLock, nobody: Session
) -> None:
    lock = mysql_lock(note="report 7")
    with lock:
        looker = mysql_lock()
        eventually(lambda: (h := looker.holder()) and h.note)
        holder = mysql_lock(url=nobody.address).holder()
        assert holder is not None
        told = Holder(lock.session.connection_id, lock.name)
        assert holder == told


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
    assert holder.process.hostname == os.uname().nodename
    assert holder.note == "3f2b1c9e-77aa-4d0e-8f5e-0a1b2c3d4e5f"
    assert holder.since is not None
    assert abs((datetime.now(UTC) - holder.since).total_seconds()) < 30
    assert holder.user == Address.parse(url).user
    assert holder.host is not None


def test_the_next_holder_on_the_same_session_is_not_taken_for_the_one_before(
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
