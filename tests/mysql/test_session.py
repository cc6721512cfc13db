"""Sessions: their life, their statements, their threads and their forks."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.exceptions import ConnectionLost, DatabaseError
from celery_mysqllock.mysql import Session, get_lock, used_by
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_mysqllock.mysql import Address


def test_a_session_is_open_from_open_to_close(address: Address) -> None:
    session = Session(address)
    assert not session.is_open
    with pytest.raises(ConnectionLost):
        session.query("SELECT 1")
    with pytest.raises(ConnectionLost):
        assert session.server
    session.open()
    assert session.is_open
    assert session.value("SELECT CONNECTION_ID()") == session.connection_id
    session.close()
    session.close()
    assert not session.is_open
    assert session.fileno() == -1
    with pytest.raises(ConnectionLost, match="closed"):
        session.query("SELECT 1")


def test_it_is_set_up_as_it_says(address: Address) -> None:
    with Session(address, idle_timeout=7) as session:
        name = "transaction_isolation" if not session.server.is_mariadb else "tx_isolation"
        assert session.value(f"SELECT @@{name}") == "READ-COMMITTED"
        assert session.value("SELECT @@autocommit") == 1
        assert session.value("SELECT @@wait_timeout") == 7
        assert session.value("SELECT @@character_set_client") == "utf8mb4"
        assert session.value("SELECT DATABASE()") == address.database


def test_statements_and_what_they_return(session: Session) -> None:
    session.execute("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, text VARCHAR(20))")
    assert session.execute("INSERT INTO t(text) VALUES (%s)", ("it's 100 %",)) == 1
    assert session.execute("INSERT INTO t(text) VALUES (%(text)s)", {"text": "ü\U0001f512"}) == 1
    assert session.query("SELECT id, text FROM t") == [(1, "it's 100 %"), (2, "ü\U0001f512")]
    assert session.execute("UPDATE t SET text = 'x' WHERE id = 2") == 1
    assert session.execute("UPDATE t SET text = 'x' WHERE id = 3") == 0
    assert session.value("SELECT text FROM t WHERE id = 2") == "x"
    assert session.value("SELECT text FROM t WHERE id = 3") is None


def test_a_script_answers_for_each_of_its_statements(session: Session) -> None:
    session.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    script = "INSERT INTO t VALUES (%(one)s), (%(two)s); SELECT id FROM t; DELETE FROM t"
    assert session.script(script, {"one": 1, "two": 2}) == [2, [(1,), (2,)], 2]
    assert session.value("SELECT 1") == 1


def test_a_script_ends_at_the_statement_that_fails(session: Session) -> None:
    session.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    with pytest.raises(DatabaseError):
        session.script("INSERT INTO t VALUES (1); SELEKT 1; INSERT INTO t VALUES (2)")
    assert session.query("SELECT id FROM t") == [(1,)]


@pytest.mark.parametrize(
    ("sql", "parameters", "number"),
    [
        ("SELECT 7", (), 7),
        ("SELECT NULL", (), None),
        ("SELECT -3", (), -3),
        ("SELECT %s + %s", (1, 2), 3),
        ("SELECT LENGTH(%s)", ("it's",), 4),
        ("SELECT 18446744073709551615", (), 18446744073709551615),
    ],
)
def test_a_number_is_read_short(
    session: Session, sql: str, parameters: tuple[object, ...], number: int | None
) -> None:
    assert session.select_int(sql, *parameters) == number
    # Nothing is left over for the next statement.
    assert session.query("SELECT 1, 2") == [(1, 2)]


def test_an_error_in_place_of_a_number_leaves_the_session_usable(session: Session) -> None:
    with pytest.raises(DatabaseError):
        session.select_int("SELECT no_such_function()")
    assert session.select_int("SELECT 1") == 1


def test_what_an_error_leaves_open_is_rolled_back(session: Session, other: Session) -> None:
    session.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    with session.exclusive():
        session.script("BEGIN; INSERT INTO t VALUES (1)")
        assert other.query("SELECT id FROM t") == []
        session.execute("COMMIT")
    assert other.query("SELECT id FROM t") == [(1,)]

    def fail() -> None:
        with session.exclusive():
            session.script("BEGIN; INSERT INTO t VALUES (2)")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    session.execute("COMMIT")
    assert other.query("SELECT id FROM t") == [(1,)]


def test_threads_share_a_session_one_after_the_other(session: Session) -> None:
    answers: list[int] = []

    def ask(number: int) -> None:
        answers.extend(session.value("SELECT %s", (number,)) for _ in range(30))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == sorted(list(range(5)) * 30)


def test_a_killed_session_is_never_opened_again_by_itself(
    session: Session, other: Session, name: str
) -> None:
    assert get_lock(session, name, 0)
    other.execute("KILL %s", (session.connection_id,))
    eventually(lambda: used_by(other, name) is None)
    with pytest.raises(ConnectionLost):
        session.ping()
    assert not session.is_open
    with pytest.raises(ConnectionLost):
        session.query("SELECT 1")


def test_the_socket_tells_when_the_server_ends_the_session(
    session: Session, other: Session
) -> None:
    poll = select.poll()
    poll.register(session.fileno(), select.POLLIN)
    assert poll.poll(0) == []
    other.execute("KILL %s", (session.connection_id,))
    assert poll.poll(5000)


def test_an_idle_session_ends_when_it_said(address: Address, other: Session, name: str) -> None:
    with Session(address, idle_timeout=1) as session:
        assert get_lock(session, name, 0)
        eventually(lambda: used_by(other, name) is None)
        with pytest.raises(ConnectionLost):
            session.query("SELECT 1")


def test_a_ping_keeps_a_session(address: Address, other: Session) -> None:
    with Session(address, idle_timeout=1) as session:
        end = time.monotonic() + 2
        while time.monotonic() < end:
            session.ping()
            time.sleep(0.2)
        assert session.value("SELECT 1") == 1
    assert other.is_open


def test_no_answer_in_time_is_a_lost_connection(address: Address) -> None:
    with Session(address, read_timeout=1) as session:
        with pytest.raises(ConnectionLost):
            session.query("SELECT SLEEP(30)")
        assert not session.is_open


def test_a_statement_that_is_to_take_long_may(address: Address) -> None:
    with Session(address, read_timeout=1) as session:
        with session.extend_timeout(5):
            session.query("SELECT SLEEP(1.5)")
        with pytest.raises(ConnectionLost):
            session.query("SELECT SLEEP(30)")
        with pytest.raises(ConnectionLost), session.extend_timeout(5):
            session.query("SELECT 1")


def test_a_statement_is_sent_and_its_answer_read_later(
    session: Session, other: Session, name: str
) -> None:
    assert session.send(f"DO GET_LOCK('{name}', 0)")
    eventually(lambda: used_by(other, name) == session.connection_id)
    session.receive()
    assert session.send()
    session.receive()
    assert session.value("SELECT 1") == 1


def test_an_error_comes_with_the_answer(session: Session) -> None:
    assert session.send("DO no_such_function()")
    with pytest.raises(DatabaseError):
        session.receive()
    assert session.value("SELECT 1") == 1


def test_other_threads_wait_for_an_answer_that_is_outstanding(session: Session) -> None:
    assert session.send("DO SLEEP(0.3)")
    answers: list[int] = []
    thread = threading.Thread(target=lambda: answers.append(session.value("SELECT 1")))
    thread.start()
    thread.join(0.1)
    assert answers == []
    session.receive()
    thread.join()
    assert answers == [1]


def test_nothing_is_sent_into_another_threads_statement(session: Session, other: Session) -> None:
    thread = threading.Thread(target=lambda: session.query("SELECT SLEEP(0.5)"))
    thread.start()
    eventually(
        lambda: (
            other.value(
                "SELECT COMMAND FROM information_schema.PROCESSLIST WHERE ID = %s",
                (session.connection_id,),
            )
            == "Query"
        )
    )
    assert not session.send()
    thread.join()
    assert session.send()
    session.receive()


def test_hanging_up_ends_another_threads_wait(session: Session, other: Session, name: str) -> None:
    assert get_lock(session, name, 0)
    errors: list[Exception] = []

    def wait() -> None:
        try:
            session.query("SELECT SLEEP(60)")
        except ConnectionLost as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    eventually(
        lambda: (
            other.value(
                "SELECT COMMAND FROM information_schema.PROCESSLIST WHERE ID = %s",
                (session.connection_id,),
            )
            == "Query"
        )
    )
    session.shutdown()
    thread.join(10)
    assert not thread.is_alive()
    assert len(errors) == 1
    assert not session.is_open


def test_hanging_up_an_idle_session_closes_it(session: Session, other: Session, name: str) -> None:
    assert get_lock(session, name, 0)
    session.shutdown()
    assert not session.is_open
    eventually(lambda: used_by(other, name) is None)


def _in_child(what: Callable[[], bool]) -> bool:
    """Fork; whether ``what`` was true in the child, which must end within ten seconds."""
    child = os.fork()
    if child == 0:
        ok = False
        try:
            ok = what()
        finally:
            os._exit(0 if ok else 1)
    try:
        status = eventually(lambda: os.waitpid(child, os.WNOHANG)[1:] if _ended(child) else None)
    except AssertionError:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return False
    return status == (0,)


def _ended(child: int) -> bool:
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def test_a_forked_child_finds_the_session_closed_and_the_parent_keeps_it(
    session: Session, name: str
) -> None:
    assert get_lock(session, name, 0)
    assert _in_child(lambda: not session.is_open and session.fileno() == -1)
    assert used_by(session, name) == session.connection_id


def test_a_childs_copy_does_not_keep_the_parents_lock(
    address: Address, other: Session, name: str
) -> None:
    reader, writer = os.pipe()
    session = Session(address).open()
    assert get_lock(session, name, 0)
    child = os.fork()
    if child == 0:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    os.close(reader)
    try:
        session.close()
        eventually(lambda: used_by(other, name) is None)
    finally:
        os.close(writer)
        os.waitpid(child, 0)


def test_a_fork_during_another_threads_statement(session: Session, other: Session) -> None:
    thread = threading.Thread(target=lambda: session.query("SELECT SLEEP(2)"))
    thread.start()
    eventually(
        lambda: (
            other.value(
                "SELECT COMMAND FROM information_schema.PROCESSLIST WHERE ID = %s",
                (session.connection_id,),
            )
            == "Query"
        )
    )
    # The reader's mutex is held by a thread that the child does not have.
    assert _in_child(lambda: not session.is_open)
    thread.join()
    assert session.value("SELECT 1") == 1
