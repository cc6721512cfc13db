"""Writes that the server itself ties to the lock."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.exceptions import LockLost
from celery_mysqllock.locks.session_hold import SessionHold
from celery_mysqllock.mysql import Address, Session, get_lock, used_by
from tests.waiting import eventually

if TYPE_CHECKING:
    from celery_mysqllock.locks import MySQLLock
    from devserver import DevServer
    from tests.locks.conftest import MakeMySQLLock


@pytest.fixture
def ledger(session: Session) -> Session:
    """A session on a database with a table of two accounts."""
    session.execute("CREATE TABLE account (id INT PRIMARY KEY, balance INT NOT NULL)")
    session.execute("INSERT INTO account VALUES (1, 0), (2, 0)")
    return session


def _write(session: Session, lock: MySQLLock, balance: int) -> int:
    condition, parameters = lock.fence()
    return _write_with(session, condition, parameters, balance)


def _write_with(
    session: Session, condition: str, parameters: dict[str, object], balance: int
) -> int:
    return session.execute(
        f"UPDATE account SET balance = %(balance)s WHERE id = %(id)s AND {condition}",  # noqa: S608 - the condition is ours
        {"balance": balance, "id": 1, **parameters},
    )


@pytest.mark.parametrize("limit", [1, 2])
def test_a_write_goes_through_while_the_lock_is_held(
    ledger: Session, mysql_lock: MakeMySQLLock, limit: int
) -> None:
    with mysql_lock(limit=limit) as lock:
        assert _write(ledger, lock, 7) == 1
    assert ledger.value("SELECT balance FROM account WHERE id = 1") == 7


@pytest.mark.parametrize("limit", [1, 2])
def test_a_write_changes_nothing_once_the_lock_is_released(
    ledger: Session, mysql_lock: MakeMySQLLock, limit: int
) -> None:
    lock = mysql_lock(limit=limit)
    with lock:
        condition, parameters = lock.fence()
    assert _write_with(ledger, condition, parameters, 7) == 0
    with lock:  # the same object, on the same session
        assert _write_with(ledger, condition, parameters, 7) == 0
        assert _write(ledger, lock, 8) == 1


def test_a_write_changes_nothing_once_the_lock_is_lost(
    ledger: Session, mysql_lock: MakeMySQLLock
) -> None:
    lock, other = mysql_lock(), mysql_lock()
    assert lock.acquire()
    condition, parameters = lock.fence()
    assert other.reset()
    assert other.acquire()
    assert _write_with(ledger, condition, parameters, 7) == 0
    assert _write(ledger, other, 8) == 1
    with pytest.raises(LockLost):
        lock.release()
    other.release()


def test_a_write_that_waited_for_its_row_changes_nothing_once_the_lock_is_lost(
    ledger: Session, mysql_lock: MakeMySQLLock, url: str
) -> None:
    lock, other = mysql_lock(), mysql_lock()
    assert lock.acquire()
    condition, parameters = lock.fence()
    with Session(Address.parse(url)) as late, ThreadPoolExecutor() as threads:
        ledger.execute("START TRANSACTION")
        ledger.execute("UPDATE account SET balance = 1 WHERE id = 1")
        write = threads.submit(_write_with, late, condition, parameters, 7)
        with Session(Address.parse(url)) as onlooker:
            eventually(lambda: _waits_for_a_row(onlooker, late.connection_id))
        assert other.reset()
        assert other.acquire()
        ledger.execute("COMMIT")
        assert write.result() == 0
    assert ledger.value("SELECT balance FROM account WHERE id = 1") == 1
    with pytest.raises(LockLost):
        lock.release()
    other.release()


def _waits_for_a_row(session: Session, connection_id: int) -> bool:
    # InnoDB shows its transactions anew only after a tenth of a second without a look.
    time.sleep(0.15)
    return bool(
        session.value(
            "SELECT COUNT(*) FROM information_schema.innodb_trx "
            "WHERE trx_mysql_thread_id = %s AND trx_state = 'LOCK WAIT'",
            (connection_id,),
        )
    )


def test_two_locks_fence_one_write(ledger: Session, mysql_lock: MakeMySQLLock) -> None:
    one, two = mysql_lock("one"), mysql_lock("two")
    assert one.acquire()
    assert two.acquire()
    (first, some), (second, more) = one.fence(), two.fence()
    both = f"{first} AND {second}"
    assert _write_with(ledger, both, {**some, **more}, 7) == 1
    two.release()
    assert _write_with(ledger, both, {**some, **more}, 8) == 0
    one.release()


def test_no_fence_is_left_on_a_session_that_goes_back_to_the_pool(
    ledger: Session, mysql_lock: MakeMySQLLock
) -> None:
    # KeepAlive may find the session in use when it would send the introduction.
    with mysql_lock() as lock:
        condition, parameters = lock.fence()
        hold = next(iter(lock._holds.values()))  # noqa: SLF001 - the moment cannot be met otherwise
        assert isinstance(hold, SessionHold)
        thread = threading.Thread(target=hold.session.query, args=("SELECT SLEEP(0.7)",))
        thread.start()
        time.sleep(0.4)
        hold.tend()
        thread.join()
    with lock:
        assert _write_with(ledger, condition, parameters, 7) == 0


def test_asking_for_the_fence_finds_a_loss(mysql_lock: MakeMySQLLock, session: Session) -> None:
    lock = mysql_lock()
    assert lock.acquire()
    session.execute("KILL IS_USED_LOCK(%s)", (lock.name,))
    eventually(lambda: used_by(session, lock.name) is None)
    with pytest.raises(LockLost):
        lock.fence()
    with pytest.raises(LockLost):
        lock.release()


def test_nobody_passes_the_fence_with_the_connection_id_of_a_holder_before_a_restart(
    own_server: DevServer, url: str, mysql_lock: MakeMySQLLock
) -> None:
    # A restarted server counts connections from the beginning.
    address = Address.parse(url)
    strangers = [Session(address).open() for _ in range(40)]
    with strangers[0] as ledger:
        ledger.execute("CREATE TABLE account (id INT PRIMARY KEY, balance INT NOT NULL)")
        ledger.execute("INSERT INTO account VALUES (1, 0)")
    lock = mysql_lock()
    assert lock.acquire()
    condition, parameters = lock.fence()
    with Session(address) as before:
        holder = used_by(before, lock.name)
    assert holder is not None
    own_server.restart()
    with pytest.raises(LockLost):
        lock.release()
    for stranger in strangers:
        stranger.close()
    heir = Session(address).open()
    while heir.connection_id < holder:
        heir.close()
        heir = Session(address).open()
    with heir, Session(address) as ledger:
        assert heir.connection_id == holder
        assert get_lock(heir, lock.name, 0)
        assert ledger.value("SELECT IS_USED_LOCK(%s)", (lock.name,)) == holder
        assert _write_with(ledger, condition, parameters, 7) == 0
