"""What every lock does, on the server and in memory."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.exceptions import LockError, LockLost, LockNotOwned, LockTimeout
from tests.waiting import eventually

if TYPE_CHECKING:
    from celery_mysqllock.locks import MemoryLock, MySQLLock
    from tests.locks.conftest import MakeLock


def _in_thread(
    lock: MySQLLock | MemoryLock, wait: float | None
) -> tuple[threading.Thread, list[bool]]:
    got: list[bool] = []
    thread = threading.Thread(target=lambda: got.append(lock.acquire(wait)))
    thread.start()
    return thread, got


# -- taking and giving back -----------------------------------------------------------------------


def test_a_free_lock_is_taken_and_given_back(make: MakeLock) -> None:
    lock = make()
    assert not lock.owned()
    assert not lock.locked()
    assert lock.acquire()
    assert lock.owned()
    assert lock.locked()
    lock.release()
    assert not lock.owned()
    assert not lock.locked()
    assert lock.acquire()
    lock.release()


def test_another_object_of_the_same_name_is_another_holder(make: MakeLock) -> None:
    lock, other = make(), make()
    assert lock.acquire()
    assert not other.acquire()
    assert not other.owned()
    assert other.locked()
    lock.release()
    assert other.acquire()
    other.release()


def test_other_names_are_other_locks(make: MakeLock) -> None:
    one, two = make("one"), make("two")
    assert one.acquire()
    assert two.acquire()
    assert one.name != two.name
    one.release()
    two.release()


def test_a_lock_is_not_re_entrant(make: MakeLock) -> None:
    lock = make()
    assert lock.acquire()
    with pytest.raises(LockError, match="already"):
        lock.acquire()
    assert lock.owned()
    lock.release()


def test_two_threads_cannot_hold_a_lock_with_one_object(make: MakeLock) -> None:
    lock = make(limit=2)
    others = [make(limit=2) for _ in range(2)]
    for other in others:
        assert other.acquire()
    results: list[object] = []

    def wait() -> None:
        try:
            results.append(lock.acquire(30))
        except LockError as error:
            results.append(type(error))

    threads = [threading.Thread(target=wait) for _ in range(2)]
    for thread in threads:
        thread.start()
        thread.join(0.2)
    for other in others:
        other.release()
    for thread in threads:
        thread.join()
    assert sorted(results, key=str) == [LockError, True]
    assert lock.owned()
    lock.release()
    assert not lock.owned()
    eventually(lambda: not lock.locked())


def test_what_is_not_held_cannot_be_released_or_checked(make: MakeLock) -> None:
    lock, other = make(), make()
    for what in (lock.release, lock.check, lock.fence):
        with pytest.raises(LockNotOwned):
            what()
    assert other.acquire()
    with pytest.raises(LockNotOwned):
        lock.release()
    assert other.owned()
    other.release()
    with pytest.raises(LockNotOwned):
        other.release()


def test_a_held_lock_passes_its_check(make: MakeLock) -> None:
    lock = make()
    assert lock.acquire()
    lock.check()
    lock.release()


@pytest.mark.parametrize("wait", [-1, -0.5, float("nan"), float("inf")])
def test_a_wait_that_is_no_time_is_refused(make: MakeLock, wait: float) -> None:
    lock = make()
    with pytest.raises(ValueError, match="wait="):
        lock.acquire(wait)
    assert not lock.locked()


@pytest.mark.parametrize("limit", [0, -1, 1.5, True])
def test_a_limit_that_is_no_number_of_holders_is_refused(make: MakeLock, limit: int) -> None:
    with pytest.raises(ValueError, match="limit="):
        make(limit=limit)


def test_an_empty_name_is_refused(make: MakeLock) -> None:
    with pytest.raises(LockError, match="empty"):
        make("")


# -- waiting --------------------------------------------------------------------------------------


@pytest.mark.parametrize("wait", [20, None])
def test_who_waits_gets_the_lock_when_it_is_released(make: MakeLock, wait: int | None) -> None:
    lock, other = make(), make()
    assert lock.acquire()
    thread, got = _in_thread(other, wait)
    thread.join(0.3)
    assert thread.is_alive()
    lock.release()
    thread.join()
    assert got == [True]
    assert other.owned()
    assert 0.2 < other.waited < 10
    other.release()


def test_a_wait_is_cut_into_pieces_that_nobody_sees(
    make: MakeLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A minute each in truth; one GET_LOCK without an end would look like a vanished server.
    monkeypatch.setattr("celery_mysqllock.locks.mutex._SLICE", 1)
    lock, other = make(), make()
    assert lock.acquire()
    assert not other.acquire(2)
    assert other.waited >= 1.9
    thread, got = _in_thread(other, None)
    thread.join(2.3)
    assert thread.is_alive()
    lock.release()
    thread.join()
    assert got == [True]
    other.release()


def test_a_wait_ends_with_a_no(make: MakeLock) -> None:
    lock, other = make(), make()
    assert lock.acquire()
    assert not other.acquire(1)
    assert other.waited >= 0.9
    assert not other.owned()
    lock.release()
    assert other.acquire()
    other.release()


def test_a_fraction_of_a_second_is_rounded_up(make: MakeLock) -> None:
    lock, other = make(), make()
    assert lock.acquire()
    thread, got = _in_thread(other, 0.2)
    thread.join(0.5)
    assert thread.is_alive()
    lock.release()
    thread.join()
    assert got == [True]
    other.release()


@pytest.mark.parametrize("limit", [1, 2])
def test_who_waits_is_served_in_turn(make: MakeLock, limit: int) -> None:
    holders = [make(limit=limit) for _ in range(limit)]
    for holder in holders:
        assert holder.acquire()
    order: list[int] = []

    def wait(number: int) -> None:
        with make(limit=limit).waiting(30):
            order.append(number)

    threads = [threading.Thread(target=wait, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
        thread.join(0.2)  # nothing tells that it stands in line
    holders.pop().release()
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2, 3]
    for holder in holders:
        holder.release()


def test_threads_never_meet_inside(make: MakeLock) -> None:
    inside, most, done = [0], [0], []
    mutex = threading.Lock()

    def work() -> None:
        lock = make()
        for _ in range(15):
            with lock.waiting(60):
                with mutex:
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                time.sleep(0.001)
                with mutex:
                    inside[0] -= 1
            done.append(1)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(done), most[0]) == (90, 1)


# -- with -----------------------------------------------------------------------------------------


def test_a_with_holds_the_lock_to_its_end(make: MakeLock) -> None:
    lock = make()
    with lock as held:
        assert held is lock
        assert lock.owned()
    assert not lock.locked()


def test_a_with_that_does_not_get_the_lock_names_the_holder(make_telling: MakeLock) -> None:
    lock, other = make_telling(note="report 7"), make_telling()
    with lock:
        time.sleep(0.7)  # the note of a lock that is held for a moment only is not told
        with pytest.raises(LockTimeout, match="report 7"):
            other.__enter__()
        with pytest.raises(LockTimeout, match=r"waited 1\.\d s"):
            other.waiting(1).__enter__()
    assert not other.owned()


def test_an_exception_releases_and_comes_out(make: MakeLock) -> None:
    lock = make()
    with pytest.raises(KeyError), lock.waiting(1):
        raise KeyError
    assert not lock.locked()


def test_a_with_tells_of_a_loss_at_its_end(make: MakeLock) -> None:
    lock = make()
    with pytest.raises(LockLost), lock:
        assert make().reset()
    assert not lock.owned()


def test_a_loss_does_not_replace_an_exception_from_inside(
    make: MakeLock, caplog: pytest.LogCaptureFixture
) -> None:
    lock = make()

    def lose_and_fail() -> None:
        with lock:
            assert make().reset()
            raise KeyError

    with pytest.raises(KeyError):
        lose_and_fail()
    assert "after KeyError" in caplog.text


# -- several holders ------------------------------------------------------------------------------


def test_as_many_as_the_limit_hold_the_lock(make: MakeLock) -> None:
    holders = [make(limit=3) for _ in range(3)]
    for holder in holders:
        assert holder.acquire()
    other = make(limit=3)
    assert not other.acquire()
    assert not other.acquire(1)
    holders[1].release()
    assert other.acquire()
    for holder in (holders[0], other, holders[2]):
        holder.check()
        holder.release()
    assert not other.locked()


def test_whichever_slot_is_freed_goes_to_who_waits(
    make: MakeLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that the first in line is told, and does not find out by looking once a second.
    monkeypatch.setattr("celery_mysqllock.locks.mutex._LOOK", 40)
    for freed in range(3):
        holders = [make(limit=3) for _ in range(3)]
        for holder in holders:
            assert holder.acquire()
        other = make(limit=3)
        thread, got = _in_thread(other, 60)
        thread.join(0.15)
        assert thread.is_alive()
        holders.pop(freed).release()
        thread.join(20)
        assert got == [True]
        other.release()
        for holder in holders:
            holder.release()


def test_never_more_than_the_limit_are_inside(make: MakeLock) -> None:
    inside, most, done = [0], [0], []
    mutex = threading.Lock()

    def work() -> None:
        lock = make(limit=3)
        for _ in range(8):
            with lock.waiting(60):
                with mutex:
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                time.sleep(0.005)
                with mutex:
                    inside[0] -= 1
            done.append(1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 64
    assert most[0] <= 3


# -- who holds it, and its loss -------------------------------------------------------------------


def test_nobody_holds_a_free_lock(make: MakeLock) -> None:
    assert make().holder() is None
    assert not make().reset()


@pytest.mark.parametrize("limit", [1, 3])
def test_the_holder_says_who_it_is(make_telling: MakeLock, limit: int) -> None:
    lock, other = make_telling(note="report 7", limit=limit), make_telling(limit=limit)
    before = time.time()
    with lock:
        eventually(lambda: (found := other.holder()) and found.note)
        holder = other.holder()
        assert holder is not None
        assert holder.note == "report 7"
        assert holder.process is not None
        assert holder.process.pid == os.getpid()
        assert holder.since is not None
        assert before - 2 < holder.since.timestamp() < before + 2
        assert holder.name.startswith(lock.name)
        assert "report 7" in str(holder)


@pytest.mark.parametrize("limit", [1, 3])
def test_a_reset_frees_the_lock_and_the_holder_is_told(make: MakeLock, limit: int) -> None:
    told: list[tuple[object, int]] = []
    lock = make(on_lost=lambda lock: told.append((lock, threading.get_ident())), limit=limit)
    other = make(limit=limit)
    assert lock.acquire()
    assert other.reset()
    eventually(lambda: told)
    assert [told_lock for told_lock, _ in told] == [lock]
    assert told[0][1] != threading.get_ident()
    assert not lock.owned()
    assert not other.locked()
    assert other.acquire()
    with pytest.raises(LockLost):
        lock.check()
    with pytest.raises(LockLost):
        lock.fence()
    with pytest.raises(LockLost):
        lock.acquire()
    with pytest.raises(LockLost):
        lock.release()
    with pytest.raises(LockNotOwned):
        lock.release()
    assert other.owned()
    other.release()
    assert lock.acquire()
    lock.release()
    assert len(told) == 1


def test_a_reset_hits_every_slot(make: MakeLock) -> None:
    told: list[object] = []
    holders = [make(limit=3, on_lost=told.append) for _ in range(3)]
    for holder in holders:
        assert holder.acquire()
    assert make(limit=3).reset()
    eventually(lambda: len(told) == 3)
    assert set(map(id, told)) == set(map(id, holders))
    for holder in holders:
        with pytest.raises(LockLost):
            holder.release()


def test_who_waits_gets_the_lock_after_a_reset(make: MakeLock) -> None:
    lock, other = make(), make()
    assert lock.acquire()
    thread, got = _in_thread(other, 20)
    thread.join(0.2)
    assert make().reset()
    thread.join()
    assert got == [True]
    other.check()
    other.release()
    with pytest.raises(LockLost):
        lock.release()


def test_nobody_is_told_of_a_release(make: MakeLock) -> None:
    told: list[object] = []
    lock = make(on_lost=told.append)
    assert lock.acquire()
    time.sleep(0.6)
    lock.release()
    assert not make().reset()
    time.sleep(0.6)
    assert told == []


def test_nobody_is_told_after_the_release_of_a_lost_lock(make: MakeLock) -> None:
    # Else the news would hit whatever runs after the protected block.
    for _ in range(20):
        told: list[object] = []
        lock = make(on_lost=told.append)
        assert lock.acquire()
        assert make().reset()
        with pytest.raises(LockLost):
            lock.release()
        at_release = len(told)
        time.sleep(0.01)
        assert len(told) == at_release


def test_a_release_waits_for_a_callback_that_runs(make: MakeLock) -> None:
    began, ended = threading.Event(), threading.Event()

    def slow(_: object) -> None:
        began.set()
        time.sleep(0.3)
        ended.set()

    lock = make(on_lost=slow)
    assert lock.acquire()
    assert make().reset()
    assert began.wait(10)
    with pytest.raises(LockLost):
        lock.release()
    assert ended.is_set()


def test_a_callback_may_release_the_lock(make: MakeLock) -> None:
    seen: list[Exception] = []

    def release(lost: MySQLLock | MemoryLock) -> None:
        try:
            lost.release()
        except LockError as error:
            seen.append(error)

    lock = make(on_lost=release)
    assert lock.acquire()
    assert make().reset()
    eventually(lambda: seen)
    assert isinstance(seen[0], LockLost)
    assert lock.acquire()
    lock.release()


def test_a_callback_that_fails_harms_nobody(
    make: MakeLock, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("a bug in the callback")

    told: list[object] = []
    first, second = make("first", on_lost=fail), make("second", on_lost=told.append)
    assert first.acquire()
    assert second.acquire()
    assert make("first").reset()
    eventually(lambda: "a bug in the callback" in caplog.text)
    assert make("second").reset()
    eventually(lambda: told)
    for lock in (first, second):
        with pytest.raises(LockLost):
            lock.release()


# -- the rest -------------------------------------------------------------------------------------


def test_the_fence_is_a_condition_with_its_values(make: MakeLock) -> None:
    with make() as lock:
        condition, parameters = lock.fence()
        assert condition % dict.fromkeys(parameters, "?")
        assert lock.fence() == (condition, parameters)


def test_the_times_of_a_lock(make: MakeLock) -> None:
    lock = make()
    assert (lock.waited, lock.held_for) == (0.0, 0.0)
    with lock:
        assert lock.waited < 5
        time.sleep(0.1)
        assert lock.held_for >= 0.1
    held = lock.held_for
    assert held >= 0.1
    time.sleep(0.05)
    assert lock.held_for == held


def test_a_forked_child_does_not_hold_its_parents_lock(make: MakeLock) -> None:
    lock = make()
    assert lock.acquire()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            lock.release()
        except LockNotOwned:
            code = 2 if lock.owned() else 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert lock.owned()
    lock.check()
    lock.release()


def test_its_representation_says_whether_it_is_held(make: MakeLock) -> None:
    lock = make()
    assert repr(lock) == f"<{type(lock).__name__} {lock.name!r}>"
    with lock:
        assert "owned" in repr(lock)
