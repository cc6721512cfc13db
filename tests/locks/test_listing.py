"""Which locks are held and waited for, told by servers that list them or do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.locks.listing import list_locks, read_lock
from celery_mysqllock.mysql import Address, Session, get_lock, own_lock_name
from tests.waiting import eventually

if TYPE_CHECKING:
    from celery_mysqllock.locks.listing import HeldLock, Listing
    from tests.locks.conftest import Hold, MakeMySQLLock


@pytest.fixture
def url(telling_url: str) -> str:
    """A database on a server that shows what sessions tell of themselves."""
    return telling_url


@pytest.fixture
def namespace(url: str) -> str:
    return Address.parse(url).database


def locks_by_name(session: Session, namespace: str) -> dict[str, HeldLock]:
    return {lock.holder.name: lock for lock in list_locks(session, namespace).locks}


def test_a_held_lock_is_listed_with_its_holder_and_those_who_wait(
    session: Session, namespace: str, hold: Hold, start: Hold
) -> None:
    holding = hold(note="task 7")
    for _ in range(2):
        start()

    def listed() -> HeldLock | None:
        lock = locks_by_name(session, namespace).get(f"{namespace}:it")
        return lock if lock and lock.holder.note and len(lock.waiters) == 2 else None

    lock = eventually(listed)
    assert lock is not None
    assert lock.holder.process is not None
    assert (lock.holder.process.pid, lock.holder.note) == (holding.pid, "task 7")
    assert {waiter.user for waiter in lock.waiters} == {session.address.user}
    assert all(waiter.seconds is not None for waiter in lock.waiters)
    alone = read_lock(session, f"{namespace}:it")
    assert alone is not None
    assert {waiter.connection_id for waiter in alone.waiters} == {
        waiter.connection_id for waiter in lock.waiters
    }


def test_the_first_in_the_line_of_several_slots_waits_for_one_of_them(
    session: Session, namespace: str, hold: Hold, start: Hold
) -> None:
    hold(limit=2)
    hold(limit=2)
    start(limit=2)

    def waited_for() -> bool:
        locks = locks_by_name(session, namespace)
        slots = {f"{namespace}:it:{slot}" for slot in range(2)}
        return slots <= locks.keys() and any(locks[slot].waiters for slot in slots)

    eventually(waited_for)


def test_locks_of_other_namespaces_are_left_out(
    session: Session, namespace: str, mysql_lock: MakeMySQLLock
) -> None:
    with mysql_lock("mine"), mysql_lock("theirs", namespace="elsewhere"):
        eventually(lambda: locks_by_name(session, namespace))
        eventually(lambda: locks_by_name(session, "elsewhere"))
        assert locks_by_name(session, namespace).keys() == {f"{namespace}:mine"}
        assert locks_by_name(session, "elsewhere").keys() == {"elsewhere:theirs"}


def test_a_long_name_is_found_by_its_namespace(
    session: Session, namespace: str, mysql_lock: MakeMySQLLock
) -> None:
    lock = mysql_lock("É" * 100)
    with lock:
        eventually(lambda: lock.name in locks_by_name(session, namespace))


def test_a_released_lock_is_not_listed(
    session: Session, namespace: str, mysql_lock: MakeMySQLLock
) -> None:
    with mysql_lock():
        eventually(lambda: locks_by_name(session, namespace))
    assert list_locks(session, namespace).locks == ()
    assert read_lock(session, f"{namespace}:it") is None


def test_a_user_who_may_see_nothing_is_told_so(
    nobody: Session, namespace: str, mysql_lock: MakeMySQLLock
) -> None:
    with mysql_lock():
        listing = list_locks(nobody, namespace)
        assert (listing.locks, listing.is_whole) == ((), False)
        lock = read_lock(nobody, f"{namespace}:it")
        assert lock is not None
        assert lock.holder.user is None


def test_without_a_list_only_locks_that_are_waited_for_or_asked_for_are_found(
    nobody: Session, namespace: str, mysql_lock: MakeMySQLLock, start: Hold
) -> None:
    wanted, free = mysql_lock("wanted", url=nobody.address), mysql_lock("free", url=nobody.address)
    with wanted, free:
        start("wanted", url=nobody.address.url())
        eventually(lambda: locks_by_name(nobody, namespace))
        assert locks_by_name(nobody, namespace).keys() == {wanted.name}
        found = list_locks(nobody, namespace, also={free.name})
        assert [lock.holder.name for lock in found.locks] == [free.name, wanted.name]
        assert not found.is_whole


def test_a_server_with_a_list_shows_what_any_program_holds(
    session: Session, namespace: str, url: str
) -> None:
    name = f"{namespace}:of another program"
    with Session(Address.parse(url)) as other:
        get_lock(other, name, 0)
        listing = list_locks(session, namespace)
        assert listing.is_whole
        (lock,) = listing.locks
        assert lock.holder.name == name
        assert lock.holder.connection_id == other.connection_id
        session.send(f"DO GET_LOCK('{name}', 20)")
        (waiter,) = eventually(lambda: list_locks(other, namespace).locks[0].waiters)
        assert waiter.connection_id == session.connection_id
        other.value("SELECT RELEASE_LOCK(%s)", (name,))
        session.receive()


def test_a_limit_keeps_the_most_waited_for_and_counts_all(
    session: Session, namespace: str, mysql_lock: MakeMySQLLock, hold: Hold, start: Hold
) -> None:
    hold("wanted")
    start("wanted")
    beat = own_lock_name("test.jobs", "beat")
    get_lock(session, beat, 0)
    get_lock(session, own_lock_name("test.jobs", "sweeper"), 0)
    with mysql_lock("a"), mysql_lock("sweeper"):

        def listed() -> Listing | None:
            found = list_locks(session, namespace, also={beat}, limit=1)
            return found if (found.held, found.waiters) == (4, 1) else None

        listing = eventually(listed)
    assert listing is not None
    assert [lock.holder.name for lock in listing.locks] == [f"{namespace}:wanted"]
    assert listing.waited_for == 1
