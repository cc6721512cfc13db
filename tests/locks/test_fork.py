"""Locks in forked processes."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.exceptions import LockNotOwned
from tests.forking import fork, in_child, wait_for
from tests.waiting import eventually

if TYPE_CHECKING:
    from tests.locks.conftest import MakeLock, MakeMySQLLock


def test_a_child_takes_locks_of_its_own(make: MakeLock) -> None:
    lock, mine = make(), make("childs")
    assert lock.acquire()

    def work() -> None:
        assert not lock.owned()
        with pytest.raises(LockNotOwned):
            lock.check()
        assert mine.acquire()
        mine.check()
        mine.release()

    in_child(work)
    assert lock.owned()
    lock.check()
    lock.release()


def test_a_parents_lock_is_taken_for_a_child(mysql_lock: MakeMySQLLock) -> None:
    lock = mysql_lock()
    with lock:

        def work() -> None:
            assert not lock.acquire()
            assert lock.locked()

        in_child(work)

    def take() -> None:
        assert lock.acquire(20)
        lock.release()

    in_child(take)


def test_a_child_keeps_its_lock_alive(mysql_lock: MakeMySQLLock) -> None:
    parents, childs = mysql_lock("parents"), mysql_lock("childs")
    told: list[object] = []
    watched = mysql_lock("watched", on_lost=told.append)

    def work() -> None:
        assert childs.acquire()
        assert watched.acquire()
        time.sleep(4.5)
        childs.check()
        childs.release()
        assert mysql_lock("watched").reset()
        eventually(lambda: told, within=5)

    with parents:  # so that the parent's thread runs
        child = fork(work)
        time.sleep(4)
        parents.check()
        wait_for(child)
    assert told == []


def test_the_end_of_a_child_leaves_the_parents_lock(mysql_lock: MakeMySQLLock) -> None:
    lock = mysql_lock()
    with lock:
        for _ in range(5):
            in_child(lambda: None)
        assert not mysql_lock().acquire()
        lock.check()


def test_forks_while_other_threads_take_locks(mysql_lock: MakeMySQLLock) -> None:
    # What a thread holds at the moment of the fork must not hang the child.
    stop = threading.Event()

    def work(number: int) -> None:
        lock = mysql_lock(f"threads {number % 2}", limit=1 + number // 2)
        while not stop.is_set():
            if lock.acquire(1):
                lock.release()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        for number in range(15):

            def take(number: int = number) -> None:
                with mysql_lock(f"child {number}") as lock:
                    lock.check()

            in_child(take)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
