"""Exceptions that a signal or another thread raises (Ctrl-C, a time limit) at any moment."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.exceptions import ConnectionLost, LockError, LockLost
from celery_mysqllock.mysql import Session, used_by
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery_mysqllock.locks import MySQLLock
    from tests.locks.conftest import Hold, MakeMySQLLock


# Python drops an exception that comes while it finalises a forgotten connection of PyMySQL.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <function Connection._force_close"
    ":pytest.PytestUnraisableExceptionWarning"
)


class TimeLimit(BaseException):
    """As Celery's SoftTimeLimitExceeded, out of a signal's handler."""


def _raise(*_: object) -> None:
    raise TimeLimit


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeLimit in the main thread after so many seconds, if the block still runs."""
    before = signal.signal(signal.SIGUSR1, _raise)
    over = threading.Event()

    def wait() -> None:
        if not over.wait(seconds):
            os.kill(os.getpid(), signal.SIGUSR1)

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        over.set()
        thread.join()
        signal.signal(signal.SIGUSR1, before)


def test_a_time_limit_ends_a_wait_and_nothing_is_held_later(
    mysql_lock: MakeMySQLLock, hold: Hold
) -> None:
    process = hold()
    lock, other = mysql_lock(), mysql_lock()
    with _time_limit(0.3), pytest.raises(TimeLimit):
        lock.acquire(60)
    assert not lock.owned()
    # The server still has the interrupted one in its line. It must not keep the lock.
    assert process.ask("release") == "ok"
    assert other.acquire(20)
    other.release()
    assert lock.acquire(20)
    lock.release()


@pytest.mark.parametrize("holders", [1, 2])
def test_a_time_limit_ends_a_wait_for_a_slot(mysql_lock: MakeMySQLLock, holders: int) -> None:
    # With one more than there are slots it is the first in line, with two more it is not.
    locks = [mysql_lock(limit=2) for _ in range(2)]
    for lock in locks:
        assert lock.acquire()
    waiters = [mysql_lock(limit=2) for _ in range(holders - 1)]
    threads = [threading.Thread(target=waiter.acquire, args=(60,)) for waiter in waiters]
    for thread in threads:
        thread.start()
        thread.join(0.3)
    interrupted = mysql_lock(limit=2)
    with _time_limit(0.4), pytest.raises(TimeLimit):
        interrupted.acquire(60)
    for lock in locks:
        lock.release()
    for thread in threads:
        thread.join()
    for waiter in waiters:
        waiter.release()
    again = [mysql_lock(limit=2) for _ in range(2)]
    for lock in again:
        assert lock.acquire(20)
    for lock in again:
        lock.release()


def test_a_time_limit_inside_a_with_gives_the_lock_back(
    mysql_lock: MakeMySQLLock, session: Session
) -> None:
    lock = mysql_lock()
    with _time_limit(0.2), pytest.raises(TimeLimit), lock:
        time.sleep(60)
    assert used_by(session, lock.name) is None


def test_a_time_limit_during_a_check_is_a_loss(
    mysql_lock: MakeMySQLLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The connection whose answer was not read cannot be used again, so the lock is free.
    told: list[MySQLLock] = []
    lock, other = mysql_lock(on_lost=told.append), mysql_lock()
    assert lock.acquire()
    monkeypatch.setattr(
        "celery_mysqllock.locks.session_hold.used_by",
        lambda session, _: session.query("SELECT SLEEP(1.5)"),
    )
    with _time_limit(0.2), pytest.raises(TimeLimit):
        lock.check()
    monkeypatch.undo()
    assert not lock.owned()
    eventually(lambda: told)
    with pytest.raises(LockLost, match="TimeLimit"):
        lock.release()
    assert other.acquire(20)
    other.release()


def _work(lock: MySQLLock, wait: int) -> None:
    with lock.waiting(wait):
        lock.check()
        lock.fence()


def _take(lock: MySQLLock, wait: int) -> None:
    if lock.acquire(wait):
        lock.release()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("limit", [1, 2])
@pytest.mark.parametrize("what", [_work, _take])
def test_whenever_a_time_limit_strikes_no_lock_is_left_held(
    mysql_lock: MakeMySQLLock, session: Session, limit: int, what: Callable[[MySQLLock, int], None]
) -> None:
    struck = 0
    for attempt in range(80):
        lock = mysql_lock(limit=limit)
        try:
            with _time_limit(random.uniform(0, 0.03)):  # noqa: S311 - no secret
                while True:
                    what(lock, attempt % 2)
        except TimeLimit as error:
            struck += 1
            kept = error  # with its traceback, and so with all that its frames refer to
        except LockLost:
            pass  # the limit struck while it was checked, and the release said so
        assert not lock.owned(), kept
        for name in lock.names:
            eventually(lambda name=name: used_by(session, name) is None)  # type: ignore[misc]
    assert struck > 20
    # What watches and what is pooled is sound.
    told: list[MySQLLock] = []
    lock = mysql_lock(limit=limit, on_lost=told.append)
    assert lock.acquire()
    time.sleep(1.5)
    lock.check()
    assert mysql_lock(limit=limit).reset()
    eventually(lambda: told)
    with pytest.raises(LockLost):
        lock.release()


def test_an_exception_that_another_thread_raises_leaves_no_lock_held(
    mysql_lock: MakeMySQLLock, session: Session
) -> None:
    stop = threading.Event()
    done: list[int] = []
    lock = mysql_lock()

    def work() -> None:
        while not stop.is_set():
            try:
                with lock.waiting(20):
                    done.append(1)
            except (TimeLimit, LockLost):
                assert not lock.owned()

    def guarded() -> None:
        while not stop.is_set():
            try:
                work()
            except TimeLimit:
                continue

    thread = threading.Thread(target=guarded)
    thread.start()
    assert thread.ident is not None
    for number in range(60):
        if number % 3 == 0:  # now and then something gets done in between
            before = len(done)
            eventually(lambda before=before: len(done) > before)  # type: ignore[misc]
        else:
            time.sleep(random.uniform(0, 0.05))  # noqa: S311 - as above
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident), ctypes.py_object(TimeLimit)
        )
    stop.set()
    thread.join()
    eventually(lambda: used_by(session, lock.name) is None)
    with lock:
        lock.check()


# -- somebody ends the wait on the server ---------------------------------------------------------


def test_a_wait_that_was_ended_by_kill_query_is_an_error(
    mysql_lock: MakeMySQLLock, session: Session
) -> None:
    lock, waiter = mysql_lock(), mysql_lock()
    assert lock.acquire()
    errors: list[Exception] = []

    def wait() -> None:
        try:
            waiter.acquire(60)
        except LockError as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    while thread.is_alive():
        for (waiting,) in session.query(
            "SELECT ID FROM information_schema.PROCESSLIST"
            " WHERE DB = DATABASE() AND INFO LIKE 'SELECT GET_LOCK%%' AND STATE = 'User lock'"
        ):
            session.execute("KILL QUERY %s", (waiting,))
        thread.join(0.05)
    assert type(errors[0]) is LockError
    assert "kill" in str(errors[0]).lower()
    assert not waiter.owned()
    lock.check()
    lock.release()
    assert waiter.acquire()
    waiter.release()


def test_a_waiter_whose_session_is_killed_gets_an_error(
    mysql_lock: MakeMySQLLock, session: Session
) -> None:
    lock, waiter = mysql_lock(), mysql_lock()
    assert lock.acquire()
    errors: list[Exception] = []

    def wait() -> None:
        try:
            waiter.acquire(60)
        except ConnectionLost as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    while thread.is_alive():
        for (waiting,) in session.query(
            "SELECT ID FROM information_schema.PROCESSLIST"
            " WHERE DB = DATABASE() AND INFO LIKE 'SELECT GET_LOCK%%' AND STATE = 'User lock'"
        ):
            session.execute("KILL %s", (waiting,))
        thread.join(0.05)
    assert len(errors) == 1
    lock.check()
    lock.release()
