"""The driver's errors become ours, on a real server."""

from __future__ import annotations

import os
import signal
import socket
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pymysql.err
import pytest

from celery_mysqllock import exceptions
from celery_mysqllock.mysql import Session
from celery_mysqllock.mysql.errors import translate

if TYPE_CHECKING:
    from celery_mysqllock.mysql import Address


def test_no_server_there(address: Address) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and nobody listens
        nowhere = replace(address, host="127.0.0.1", port=taken.getsockname()[1], unix_socket=None)
        with pytest.raises(exceptions.CannotConnect, match="cannot be reached"):
            Session(nowhere).open()


def test_a_wrong_password(address: Address) -> None:
    with pytest.raises(exceptions.LoginRefused) as caught:
        Session(replace(address, password="n0t-it")).open()  # noqa: S106 - a wrong one
    assert "n0t-it" not in str(caught.value)
    assert address.user in str(caught.value)


def test_an_unknown_database(address: Address) -> None:
    with pytest.raises(exceptions.UnknownDatabase, match="Create it"):
        Session(replace(address, database="no_such_database")).open()


def test_a_database_that_the_user_may_not_use(poor: Address) -> None:
    with pytest.raises(exceptions.MissingPrivilege):
        Session(replace(poor, database="mysql")).open()


def test_a_statement_that_the_user_may_not_run(poor: Address) -> None:
    with Session(poor) as session, pytest.raises(exceptions.MissingPrivilege, match="GRANT"):
        session.execute("CREATE TABLE t (id INT)")


def test_the_end_of_a_session_of_another_user(poor: Address, session: Session) -> None:
    with Session(poor) as weak, pytest.raises(exceptions.MissingPrivilege):
        weak.execute("KILL %s", (session.connection_id,))


def test_the_end_of_no_session(session: Session) -> None:
    with pytest.raises(exceptions.NoSuchSession):
        session.execute("KILL 0")


def test_a_missing_table(session: Session) -> None:
    with pytest.raises(exceptions.TableMissing):
        session.query("SELECT * FROM nothing_here")


def test_a_missing_column(session: Session) -> None:
    session.execute("CREATE TABLE t (id INT)")
    with pytest.raises(exceptions.TableMismatch):
        session.query("SELECT size FROM t")


def test_wrong_sql_is_quoted_in_the_message(session: Session) -> None:
    with pytest.raises(exceptions.DatabaseError, match="1064"):
        session.query("SELEKT 1")


def test_a_wait_for_a_row_that_is_too_long(session: Session, other: Session) -> None:
    session.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    session.execute("INSERT INTO t VALUES (1)")
    other.execute("SET SESSION innodb_lock_wait_timeout = 1")
    with session.exclusive():
        session.script("BEGIN; SELECT id FROM t WHERE id = 1 FOR UPDATE")
        with pytest.raises(exceptions.TransientError):
            other.query("SELECT id FROM t WHERE id = 1 FOR UPDATE")


def test_a_killed_statement_leaves_the_session(session: Session, other: Session) -> None:
    # On a table: MariaDB answers a killed SLEEP of no table without an error.
    session.execute("CREATE TABLE t (id INT)")
    session.execute("INSERT INTO t VALUES (1), (2)")
    caught: list[Exception] = []

    def run() -> None:
        try:
            session.query("SELECT SLEEP(60), id FROM t")
        except exceptions.MySQLLockError as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while thread.is_alive():
        other.execute("KILL QUERY %s", (session.connection_id,))
        thread.join(0.05)
    assert [type(error) for error in caught] == [exceptions.Interrupted]
    assert session.value("SELECT 1") == 1


def test_a_statement_over_the_servers_limit(session: Session) -> None:
    session.execute("CREATE TABLE t (id INT)")
    session.execute("INSERT INTO t VALUES (1), (2)")
    if session.server.is_mariadb:
        session.execute("SET SESSION max_statement_time = 0.05")
    else:
        session.execute("SET SESSION max_execution_time = 50")
    with pytest.raises(exceptions.StatementTimeout):
        session.query("SELECT a.id, SLEEP(0.2) FROM t a, t b, t c WHERE a.id + b.id + c.id > 0")


def test_a_message_that_is_too_large(session: Session) -> None:
    largest = session.value("SELECT @@max_allowed_packet")
    with pytest.raises((exceptions.MessageTooLarge, exceptions.ConnectionLost)):
        session.value("SELECT LENGTH(%s)", ("x" * (int(largest) + 1),))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (pymysql.err.OperationalError(1040, "Too many connections"), exceptions.CannotConnect),
        (pymysql.err.OperationalError(1290, "--read-only"), exceptions.ReadOnlyServer),
        (pymysql.err.OperationalError(1114, "table is full"), exceptions.ServerFull),
        (pymysql.err.OperationalError(1213, "Deadlock"), exceptions.TransientError),
        (pymysql.err.OperationalError(4031, "inactivity"), exceptions.ConnectionLost),
        (pymysql.err.InterfaceError(0, ""), exceptions.ConnectionLost),
        (BrokenPipeError("gone"), exceptions.ConnectionLost),
        (RuntimeError("'cryptography' package is required"), exceptions.LoginRefused),
        (RuntimeError("Second simultaneous read on fileno 14"), exceptions.ConnectionLost),
        (pymysql.err.OperationalError(9999, "something new"), exceptions.DatabaseError),
        (pymysql.err.ProgrammingError("no code at all"), exceptions.DatabaseError),
    ],
)
def test_what_cannot_be_brought_about_here(
    address: Address, error: Exception, kind: type[Exception]
) -> None:
    translated = translate(error, address)
    assert type(translated) is kind
    assert address.password not in str(translated)
    assert address.host in str(translated)


def test_our_own_errors_are_errors_of_connections_to_others_too() -> None:
    assert issubclass(exceptions.ConnectionLost, ConnectionError)
    assert issubclass(exceptions.CannotConnect, ConnectionError)


def test_an_exception_of_a_signal_is_not_translated(session: Session) -> None:
    class TimeLimit(Exception):
        pass

    def alarm(*_: object) -> None:
        raise TimeLimit

    before = signal.signal(signal.SIGUSR1, alarm)
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    try:
        with pytest.raises(TimeLimit):
            session.query("SELECT SLEEP(60)")
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, before)
    # The answer was not read, so nobody may use this connection again.
    with pytest.raises(exceptions.ConnectionLost):
        session.query("SELECT 1")
