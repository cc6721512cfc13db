"""``mysqllock locks`` as a user runs it."""

from __future__ import annotations

import json
import threading
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

import pytest

from celery_mysqllock.exceptions import LockLost
from celery_mysqllock.jobs import LockNames
from celery_mysqllock.locks import MySQLLock
from celery_mysqllock.mysql import Address, Session
from tests.cli.test_deployment import run
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def url(telling_url: str) -> str:
    """A database on a server that shows what sessions tell of themselves."""
    return telling_url


@pytest.fixture
def lost() -> threading.Event:
    return threading.Event()


@pytest.fixture
def held(url: str, lost: threading.Event) -> Iterator[MySQLLock]:
    """A lock that this process holds, and has told so."""
    lock = MySQLLock("nightly", url=url, note="[task 7]", on_lost=lambda _: lost.set())
    assert lock.acquire()
    eventually(lambda: (holder := lock.holder()) and holder.note)
    yield lock
    if lock.owned():
        lock.release()


def locks(url: str, *words: str) -> Any:
    done = run("locks", *words, "--json", MYSQLLOCK_URL=url)
    return json.loads(done.stdout)


def test_what_is_held_is_shown(url: str, held: MySQLLock) -> None:
    done = run("locks", MYSQLLOCK_URL=url, COLUMNS="160")
    assert done.returncode == 0
    assert held.name in done.stdout
    assert "[task 7]" in done.stdout


def test_json_is_for_programs(url: str, held: MySQLLock) -> None:
    report = locks(url)
    assert report["namespace"] == Address.parse(url).database
    (lock,) = report["locks"]
    assert (lock["name"], lock["note"], lock["waiting"]) == (held.name, "[task 7]", [])
    assert lock["user"] == Address.parse(url).user
    assert lock == locks(url, "show", "nightly")


@pytest.mark.usefixtures("held")
def test_one_is_shown_by_its_short_and_by_its_full_name(url: str) -> None:
    full = f"{Address.parse(url).database}:nightly"
    for name in ("nightly", full):
        done = run("locks", "show", name, MYSQLLOCK_URL=url)
        assert done.returncode == 0
        assert done.stdout.startswith(f"{full}\n  held by session ")


def test_nobody_holds_anything(url: str) -> None:
    assert "Nobody holds a lock of the namespace" in run("locks", MYSQLLOCK_URL=url).stdout
    # MariaDB does not say who holds locks unless a plugin is there
    notice = run("locks", MYSQLLOCK_URL=url).stderr
    assert len(notice.splitlines()) <= 1
    assert len(notice) <= 80
    shown = run("locks", "show", "nightly", MYSQLLOCK_URL=url)
    assert (shown.returncode, shown.stdout[:12]) == (1, "Nobody holds")
    assert locks(url, "show", "nightly") is None
    assert run("locks", "reset", "nightly", "--yes", MYSQLLOCK_URL=url).returncode == 0


def test_a_lock_is_taken_away_and_its_holder_told(
    url: str, held: MySQLLock, lost: threading.Event
) -> None:
    done = run("locks", "reset", "nightly", "--yes", MYSQLLOCK_URL=url)
    assert (done.returncode, done.stderr) == (0, "")
    assert "was taken away from session" in done.stdout
    assert lost.wait(20)
    assert not held.locked()


def test_without_a_yes_nothing_is_done(url: str, held: MySQLLock) -> None:
    done = run("locks", "reset", "nightly", MYSQLLOCK_URL=url)
    assert done.returncode == 1
    assert "is held by session" in done.stdout
    held.check()


def test_locks_in_memory_cannot_be_seen() -> None:
    done = run("locks", MYSQLLOCK_URL="memory://")
    assert done.returncode == 1
    assert "memory://" in done.stderr


def test_the_lock_of_the_active_beat_is_shown_and_the_other_inner_ones_are_not(url: str) -> None:
    with Session(Address.parse(url)) as session:
        names = LockNames.of(session, "jobs")
    with suppress(LockLost), ExitStack() as held:
        for name in (names.beat, names.sweeper, *names.bells("q")):
            lock = MySQLLock(name, url=url)
            held.enter_context(lock)
            eventually(lambda lock=lock: (holder := lock.holder()) and holder.since)  # type: ignore[misc]
        assert [lock["name"] for lock in locks(url)["locks"]] == [names.beat]
        assert locks(url, "show", names.beat)["name"] == names.beat
        done = run("locks", "reset", "--yes", names.sweeper, MYSQLLOCK_URL=url)
        assert "was taken away" in done.stdout
