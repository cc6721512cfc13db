"""The sessions behind the locks: reused, bounded, replaced, closed, cheap."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.exceptions import CannotConnect, LoginRefused, MissingPrivilege
from celery_mysqllock.locks import MySQLLock
from celery_mysqllock.mysql import Address, Session, used_by
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devserver import DevServer
    from tests.locks.conftest import MakeMySQLLock


def _sessions(session: Session) -> set[int]:
    """The connection ids of all other sessions on the test's database."""
    rows = session.query(
        "SELECT ID FROM information_schema.PROCESSLIST"
        " WHERE DB = DATABASE() AND ID <> CONNECTION_ID()"
    )
    return {number for (number,) in rows}


def _holder(session: Session, lock: MySQLLock) -> int | None:
    return used_by(session, lock.name)


def test_nothing_is_opened_before_it_is_needed(mysql_lock: MakeMySQLLock, session: Session) -> None:
    mysql_lock()
    assert _sessions(session) == set()


def test_a_session_is_used_again(mysql_lock: MakeMySQLLock, session: Session) -> None:
    holders = set()
    for number in range(5):
        with mysql_lock(f"lock {number}") as lock:
            holders.add(_holder(session, lock))
    assert len(holders) == 1
    assert len(_sessions(session)) == 1


def test_each_held_lock_has_a_session_of_its_own(
    mysql_lock: MakeMySQLLock, session: Session
) -> None:
    locks = [mysql_lock(f"lock {number}") for number in range(4)]
    for lock in locks:
        assert lock.acquire()
    assert len({_holder(session, lock) for lock in locks}) == 4
    for lock in locks:
        lock.release()


def test_a_lock_that_was_not_got_leaves_its_session_for_the_next(
    mysql_lock: MakeMySQLLock, session: Session
) -> None:
    with mysql_lock():
        for _ in range(5):
            assert not mysql_lock().acquire()
            assert not mysql_lock().acquire()
        assert len(_sessions(session)) == 2


def test_idle_sessions_are_bounded(mysql_lock: MakeMySQLLock, session: Session) -> None:
    locks = [mysql_lock(f"lock {number}", session_timeout=600) for number in range(30)]
    for lock in locks:
        assert lock.acquire()
    assert len(_sessions(session)) == 30
    for lock in locks:
        lock.release()
    eventually(lambda: len(_sessions(session)) <= 16)


def test_idle_sessions_are_closed(mysql_lock: MakeMySQLLock, session: Session) -> None:
    with mysql_lock() as lock:
        # The server would not end it for a long time.
        hold = next(iter(lock._holds.values()))  # noqa: SLF001 - only here can it be changed
        hold.session.execute("SET SESSION wait_timeout = 600")  # type: ignore[attr-defined]
    assert len(_sessions(session)) == 1
    eventually(lambda: _sessions(session) == set(), within=10)


@pytest.mark.parametrize("rest", [0, 1.3])
def test_a_session_that_died_in_the_pool_is_replaced(
    mysql_lock: MakeMySQLLock, session: Session, rest: float
) -> None:
    lock = mysql_lock(session_timeout=60)
    with lock:
        pass
    time.sleep(rest)
    for number in _sessions(session):
        session.execute("KILL %s", (number,))
    eventually(lambda: _sessions(session) == set())
    with lock:
        lock.check()
    assert not lock.locked()
    assert lock.holder() is None


def test_locks_work_again_after_the_server_was_restarted(
    own_server: DevServer, mysql_lock: MakeMySQLLock
) -> None:
    lock = mysql_lock()
    with lock:
        pass
    own_server.stop()
    try:
        with pytest.raises(CannotConnect):
            lock.acquire()
        with pytest.raises(CannotConnect):
            lock.acquire(5)
        assert not lock.owned()
    finally:
        own_server.start()
    with lock:
        lock.check()


def test_a_lock_costs_two_statements(mysql_lock: MakeMySQLLock) -> None:
    lock = mysql_lock()

    def questions() -> int:
        with lock._pool().session() as session:  # noqa: SLF001 - the counter is the session's own
            (row,) = session.query("SHOW SESSION STATUS LIKE 'Questions'")
            return int(row[1])

    with lock:
        pass
    before = questions()
    for _ in range(10):
        with lock:
            pass
    assert questions() - before == 2 * 10 + 1  # the one is the second look at the counter


def test_other_logins_have_other_sessions(url: str, session: Session) -> None:
    short, long = (MySQLLock("it", url=url, session_timeout=seconds) for seconds in (3, 60))
    for lock, seconds in ((short, 3), (long, 60), (short, 3)):
        with lock:
            hold = next(iter(lock._holds.values()))  # noqa: SLF001 - to see its variable
            assert hold.session.value("SELECT @@wait_timeout") == seconds  # type: ignore[attr-defined]
    assert len(_sessions(session)) == 2


def test_a_statement_limit_of_the_server_does_not_end_a_wait(
    mysql_lock: MakeMySQLLock, session: Session
) -> None:
    variable, value = (
        ("max_statement_time", 0.3) if session.server.is_mariadb else ("max_execution_time", 300)
    )
    before = session.value(f"SELECT @@GLOBAL.{variable}")
    session.execute(f"SET GLOBAL {variable} = %s", (value,))
    try:
        with mysql_lock():
            assert not mysql_lock().acquire(1)
    finally:
        session.execute(f"SET GLOBAL {variable} = %s", (before,))


@pytest.mark.parametrize("seconds", [0, 2, 3601, 3.5])
def test_a_session_timeout_that_is_not_allowed_is_refused(url: str, seconds: int) -> None:
    with pytest.raises(ValueError, match="session_timeout="):
        MySQLLock("it", url=url, session_timeout=seconds)


def test_the_namespace_is_the_databases_name(url: str) -> None:
    address = Address.parse(url)
    assert MySQLLock("it", url=url).name == f"{address.database}:it"
    assert MySQLLock("it", url=address).name == f"{address.database}:it"
    assert MySQLLock("it", url=url, namespace="shop").name == "shop:it"


def test_one_namespace_joins_two_databases(url: str, server: DevServer) -> None:
    other = server.create_database()
    try:
        with MySQLLock("it", url=url, namespace=f"{url[-6:]} shared"):
            assert not MySQLLock("it", url=other, namespace=f"{url[-6:]} shared").acquire()
            with MySQLLock("it", url=other):
                pass
    finally:
        server.drop_database(Address.parse(other).database)


def test_a_wrong_password_is_an_error_that_does_not_show_it(url: str) -> None:
    wrong = Address.parse(url).url().replace(Address.parse(url).password, "n0t-it")
    with pytest.raises(LoginRefused) as caught:
        MySQLLock("it", url=wrong).acquire()
    assert "n0t-it" not in str(caught.value)


@pytest.fixture
def poor(url: str, session: Session) -> Iterator[str]:
    """The URL of a user who may read the database and nothing else."""
    user, database = f"poor_{session.connection_id}", Address.parse(url).database
    session.execute("CREATE USER %s@'%%' IDENTIFIED BY 'secret'", (user,))
    session.execute(f"GRANT SELECT ON `{database}`.* TO %s@'%%'", (user,))
    address = Address.parse(url)
    yield f"mysql://{user}:secret@{address.host}:{address.port}/{database}"
    session.execute("DROP USER %s@'%%'", (user,))


def test_a_user_without_privileges_may_lock_and_reset_its_own(poor: str) -> None:
    lock, other = (MySQLLock("it", url=poor, session_timeout=3) for _ in range(2))
    assert lock.acquire()
    lock.check()
    assert not other.acquire()
    holder = other.holder()
    assert holder is not None
    assert holder.user is not None
    assert holder.user.startswith("poor_")
    assert other.reset()
    with other:
        pass


def test_a_user_without_privileges_sees_and_cannot_reset_anothers(
    mysql_lock: MakeMySQLLock, poor: str
) -> None:
    weak = MySQLLock("it", url=poor, session_timeout=3)
    with mysql_lock(note="report 7") as lock:
        holder = weak.holder()
        assert holder is not None
        assert holder.connection_id == lock.session.connection_id
        assert (holder.user, holder.process) == (None, None)
        with pytest.raises(MissingPrivilege, match="CONNECTION_ADMIN"):
            weak.reset()
        lock.check()


def test_waiters_of_another_user_get_a_freed_slot_without_being_woken(
    mysql_lock: MakeMySQLLock, poor: str, url: str
) -> None:
    # The poor user's release may not KILL QUERY the waiter, which looks by itself.
    holders = [MySQLLock("it", url=poor, session_timeout=3, limit=2) for _ in range(2)]
    for holder in holders:
        assert holder.acquire()
    waiter = MySQLLock("it", url=url, session_timeout=3, limit=2)
    got: list[bool] = []
    thread = threading.Thread(target=lambda: got.append(waiter.acquire(20)))
    thread.start()
    thread.join(0.3)
    for holder in holders:
        holder.release()
    thread.join()
    assert got == [True]
    waiter.release()
    assert mysql_lock(limit=2).holder() is None
