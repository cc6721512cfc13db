"""How a lock is lost, and how its holder learns of it."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.exceptions import LockLost
from celery_mysqllock.locks import MySQLLock
from celery_mysqllock.locks.session_hold import SessionHold
from celery_mysqllock.mysql import Session, used_by
from devserver.network import Network
from tests.waiting import eventually

if TYPE_CHECKING:
    from devserver import DevServer
    from tests.locks.conftest import Hold, MakeMySQLLock

_AT_ONCE = 5.0  # seconds; a loss that is noticed by the keep-alive alone takes longer, see below


def _kill_holder(session: Session, lock: MySQLLock) -> None:
    session.execute("KILL IS_USED_LOCK(%s)", (lock.name,))


# -- the holder's process goes --------------------------------------------------------------------


def test_a_killed_process_frees_its_lock(mysql_lock: MakeMySQLLock, hold: Hold) -> None:
    process = hold()
    lock = mysql_lock()
    assert not lock.acquire()
    process.signal(signal.SIGKILL)
    assert lock.acquire(20)
    lock.release()


def test_a_killed_process_frees_its_slot(mysql_lock: MakeMySQLLock, hold: Hold) -> None:
    processes = [hold(limit=2) for _ in range(2)]
    lock = mysql_lock(limit=2)
    assert not lock.acquire()
    processes[1].signal(signal.SIGKILL)
    assert lock.acquire(20)
    lock.release()


def test_a_child_that_outlives_its_parent_does_not_keep_the_lock(
    mysql_lock: MakeMySQLLock, hold: Hold
) -> None:
    process = hold()
    child = int(process.ask("fork"))
    try:
        process.signal(signal.SIGKILL)
        lock = mysql_lock()
        assert lock.acquire(20)
        lock.release()
    finally:
        os.kill(child, signal.SIGKILL)


# -- the session goes -----------------------------------------------------------------------------


def test_a_kill_is_told_at_once_long_before_the_keep_alive(
    mysql_lock: MakeMySQLLock, session: Session
) -> None:
    told = threading.Event()
    lock = mysql_lock(session_timeout=3600, on_lost=lambda _: told.set())
    assert lock.acquire()
    _kill_holder(session, lock)
    assert told.wait(_AT_ONCE)
    assert not lock.owned()
    with pytest.raises(LockLost, match="KILL"):
        lock.release()


def test_a_kill_of_a_lock_that_is_held_for_long_is_told_at_once(
    mysql_lock: MakeMySQLLock, session: Session
) -> None:
    told = threading.Event()
    lock = mysql_lock(session_timeout=3600, on_lost=lambda _: told.set())
    assert lock.acquire()
    time.sleep(1.2)
    _kill_holder(session, lock)
    assert told.wait(_AT_ONCE)
    with pytest.raises(LockLost):
        lock.release()


def test_only_the_lock_whose_session_was_killed_is_lost(
    mysql_lock: MakeMySQLLock, session: Session
) -> None:
    told: list[MySQLLock] = []
    locks = [mysql_lock(f"lock {number}", on_lost=told.append) for number in range(5)]
    for lock in locks:
        assert lock.acquire()
    _kill_holder(session, locks[2])
    eventually(lambda: told)
    time.sleep(0.6)
    assert told == [locks[2]]
    with pytest.raises(LockLost):
        locks[2].release()
    for lock in (*locks[:2], *locks[3:]):
        lock.check()
        lock.release()


def test_the_check_finds_a_loss_before_keep_alive_does(
    mysql_lock: MakeMySQLLock, session: Session
) -> None:
    told: list[MySQLLock] = []
    lock = mysql_lock(on_lost=told.append)
    assert lock.acquire()
    _kill_holder(session, lock)
    eventually(lambda: used_by(session, lock.name) is None)
    with pytest.raises(LockLost):
        lock.check()
    assert not lock.owned()
    eventually(lambda: told)
    with pytest.raises(LockLost):
        lock.release()
    assert told == [lock]


def test_the_release_finds_a_loss_that_nobody_has_seen(
    mysql_lock: MakeMySQLLock, session: Session
) -> None:
    lock, other = mysql_lock(), mysql_lock()
    for _ in range(10):
        assert lock.acquire()
        _kill_holder(session, lock)
        assert other.acquire(20)
        with pytest.raises(LockLost):
            lock.release()
        other.check()
        other.release()


def test_a_session_that_lost_its_lock_only_is_found_by_the_check(
    mysql_lock: MakeMySQLLock,
) -> None:
    # Some program between us and the server (a proxy) may hand the session to others.
    lock, other = mysql_lock(), mysql_lock()
    assert lock.acquire()
    hold = next(iter(lock._holds.values()))  # noqa: SLF001 - there is no other way to do this
    hold.session.query("SELECT RELEASE_ALL_LOCKS()")  # type: ignore[attr-defined]
    assert other.acquire(5)
    with pytest.raises(LockLost, match="does not hold it"):
        lock.check()
    with pytest.raises(LockLost):
        lock.release()
    other.check()
    other.release()


def test_a_release_of_what_the_session_does_not_hold_is_a_loss(mysql_lock: MakeMySQLLock) -> None:
    lock = mysql_lock()
    assert lock.acquire()
    hold = next(iter(lock._holds.values()))  # noqa: SLF001 - as above
    hold.session.query("SELECT RELEASE_ALL_LOCKS()")  # type: ignore[attr-defined]
    with pytest.raises(LockLost, match="did not hold it"):
        lock.release()
    assert lock.acquire()
    lock.release()


def test_the_loss_is_logged(
    mysql_lock: MakeMySQLLock, session: Session, caplog: pytest.LogCaptureFixture
) -> None:
    lock = mysql_lock()
    with caplog.at_level(logging.WARNING, "celery_mysqllock"):
        assert lock.acquire()
        _kill_holder(session, lock)
        eventually(lambda: not lock.owned())
    assert lock.name in caplog.text
    with pytest.raises(LockLost):
        lock.release()


def test_a_failure_over_one_session_loses_that_lock_and_no_other(
    mysql_lock: MakeMySQLLock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tend = SessionHold.tend

    def fail(hold: SessionHold) -> None:
        if hold.name.endswith(":unlucky"):
            raise RuntimeError("a bug in KeepAlive")
        tend(hold)

    monkeypatch.setattr(SessionHold, "tend", fail)
    told: list[MySQLLock] = []
    locks = [mysql_lock(name, on_lost=told.append) for name in ("one", "unlucky", "two")]
    for lock in locks:
        assert lock.acquire()
    eventually(lambda: told)
    time.sleep(4)  # the others are kept alive
    assert told == [locks[1]]
    assert "a bug in KeepAlive" in caplog.text
    with pytest.raises(LockLost, match="its keep-alive failed"):
        locks[1].release()
    for lock in (locks[0], locks[2]):
        lock.check()
        lock.release()


# -- the server or the network goes ---------------------------------------------------------------


def test_a_restart_of_the_server_loses_all_locks(
    own_server: DevServer, mysql_lock: MakeMySQLLock
) -> None:
    told: list[MySQLLock] = []
    locks = [mysql_lock(f"lock {number}", on_lost=told.append) for number in range(3)]
    for lock in locks:
        assert lock.acquire()
    own_server.restart()
    eventually(lambda: len(told) == 3, within=_AT_ONCE)
    for lock in locks:
        with pytest.raises(LockLost):
            lock.release()
        assert lock.acquire()
        lock.release()


def test_a_crash_of_the_server_loses_all_locks(
    own_server: DevServer, mysql_lock: MakeMySQLLock
) -> None:
    told: list[MySQLLock] = []
    lock = mysql_lock(session_timeout=3600, on_lost=told.append)
    assert lock.acquire()
    own_server.kill()
    try:
        eventually(lambda: told, within=_AT_ONCE)
    finally:
        own_server.start()
    with pytest.raises(LockLost):
        lock.release()
    assert lock.acquire()
    lock.release()


def test_who_is_cut_off_knows_of_the_loss_before_the_server_frees_the_lock(
    url: str, session: Session
) -> None:
    held_at_the_news: list[bool] = []
    with Network(url) as network:
        name = "cut off"

        def lost(lock: MySQLLock) -> None:
            held_at_the_news.append(used_by(session, lock.name) is not None)

        lock = MySQLLock(name, url=network.url, session_timeout=4, on_lost=lost)
        other = MySQLLock(name, url=url, session_timeout=4)
        assert lock.acquire()
        assert not other.acquire()
        network.cut()
        eventually(lambda: held_at_the_news)
        assert not lock.owned()
        assert held_at_the_news == [True]
        assert other.acquire(20)
        with pytest.raises(LockLost, match="not answered"):
            lock.release()
        other.check()
        other.release()


def test_a_check_while_cut_off_does_not_hang(url: str) -> None:
    with Network(url) as network:
        lock = MySQLLock("cut off", url=network.url, session_timeout=3)
        assert lock.acquire()
        network.cut()
        with pytest.raises(LockLost):
            lock.check()
        with pytest.raises(LockLost):
            lock.release()


def test_many_locks_are_told_together_when_cut_off(url: str, session: Session) -> None:
    # One after the other would take longer than the server waits.
    told: list[bool] = []
    with Network(url) as network:
        locks = [
            MySQLLock(
                f"lock {number}",
                url=network.url,
                session_timeout=4,
                on_lost=lambda lock: told.append(used_by(session, lock.name) is not None),
            )
            for number in range(20)
        ]
        for lock in locks:
            assert lock.acquire()
        network.cut()
        eventually(lambda: len(told) == 20)
        assert all(told)
        for lock in locks:
            with pytest.raises(LockLost):
                lock.release()


def test_a_short_cut_does_no_harm(url: str) -> None:
    told: list[MySQLLock] = []
    with Network(url) as network:
        lock = MySQLLock("cut off", url=network.url, session_timeout=9, on_lost=told.append)
        assert lock.acquire()
        for _ in range(3):
            network.cut()
            time.sleep(1.2)
            network.mend()
            time.sleep(0.4)
        lock.check()
        lock.release()
    assert told == []


# -- the holder's process stops -------------------------------------------------------------------


def test_a_process_that_was_stopped_for_too_long_finds_the_loss(
    mysql_lock: MakeMySQLLock, hold: Hold
) -> None:
    process = hold()
    lock = mysql_lock()
    process.signal(signal.SIGSTOP)
    assert lock.acquire(30)
    process.signal(signal.SIGCONT)
    assert process.heard() == "lost"
    assert process.ask("check") == "LockLost"
    assert process.ask("owned") == "False"
    assert process.ask("release") == "LockLost"
    lock.check()
    lock.release()


def test_a_process_that_was_stopped_for_a_moment_keeps_its_lock(
    mysql_lock: MakeMySQLLock, hold: Hold
) -> None:
    process = hold(session_timeout=6)
    lock = mysql_lock()
    process.signal(signal.SIGSTOP)
    assert not lock.acquire(3)
    process.signal(signal.SIGCONT)
    assert process.ask("check") == "ok"
    assert not lock.acquire(3)
    assert process.ask("release") == "ok"
    assert lock.acquire()
    lock.release()


def test_a_process_that_was_stopped_while_it_waited_does_not_believe_an_old_yes(
    mysql_lock: MakeMySQLLock, start: Hold, session: Session
) -> None:
    lock, other = mysql_lock(), mysql_lock()
    assert lock.acquire()
    process = start()
    eventually(
        lambda: session.value(
            "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE DB = DATABASE()"
            " AND INFO LIKE 'SELECT GET_LOCK%%' AND STATE = 'User lock'"
        )
    )
    process.signal(signal.SIGSTOP)
    lock.release()
    assert not other.acquire()  # the server has given it to the stopped process
    assert other.acquire(20)  # and has taken it away again
    process.signal(signal.SIGCONT)
    assert process.heard() == "ConnectionLost"
    other.check()
    other.release()


def test_a_lock_is_kept_for_much_longer_than_the_session_timeout(
    mysql_lock: MakeMySQLLock,
) -> None:
    told: list[MySQLLock] = []
    lock = mysql_lock(on_lost=told.append)
    assert lock.acquire()
    time.sleep(5)
    assert lock.owned()
    lock.check()
    lock.release()
    assert told == []
