"""What is no MySQL server, or is silent: a clear error in time, and never one of the driver's."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.exceptions import CannotConnect, ConnectionLost, UnsuitableServer
from celery_mysqllock.mysql import Address, Session, login
from devserver import DevServer
from devserver.network import Network

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from devserver.program import Program

HTTP = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\n\r\n<html>no</html>"
NONSENSE = {
    "http": HTTP,
    "zeros": bytes(64),
    "an empty packet": b"\0\0\0\1",
    "empty packets": b"\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0\4",
    "a short packet": b"\1\0\0\1\xfc",
    "half a greeting": b"\x0a\0\0\0\x0a8.0.11\0\1\0",
    "another protocol": b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
    "text": b"-ERR unknown command\r\n",
    "ones": b"\xff" * 64,
    "an error without a text": b"\x01\0\0\1\xff",
}


@contextmanager
def speaker(says: bytes) -> Iterator[Address]:
    """Something that listens, says this to whoever comes, and then nothing."""
    visitors: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    visitor, _ = listener.accept()
                except OSError:
                    return
                visitors.append(visitor)
                visitor.sendall(says)

        threading.Thread(target=serve, daemon=True).start()
        port = listener.getsockname()[1]
        yield Address("127.0.0.1", "shop", "somebody", port=port, connect_timeout=0.5)
        listener.shutdown(socket.SHUT_RDWR)
    for visitor in visitors:
        visitor.close()


@pytest.fixture
def network(url: str) -> Iterator[Network]:
    with Network(url) as network:
        yield network


@pytest.mark.parametrize("says", [*NONSENSE.values(), b""], ids=[*NONSENSE, "nothing at all"])
def test_what_is_no_server_cannot_be_connected_to(says: bytes) -> None:
    with speaker(says) as address, pytest.raises(CannotConnect):
        Session(address).open()


@pytest.mark.parametrize("says", NONSENSE.values(), ids=NONSENSE)
@pytest.mark.parametrize(
    "ask",
    [
        lambda session: session.query("SELECT 1, 2"),
        lambda session: session.select_int("SELECT 1"),
        lambda session: session.execute("DO 1"),
        lambda session: session.script("SELECT 1; SELECT 2"),
        lambda session: session.insert("INSERT INTO t VALUES (1)", {}, then="SELECT 1"),
        lambda session: session.ping(),
    ],
    ids=["query", "number", "execute", "script", "insert", "ping"],
)
def test_nonsense_in_the_middle_of_a_session_is_its_loss(
    network: Network, says: bytes, ask: Callable[[Session], object]
) -> None:
    address = replace(Address.parse(network.url), tls=None)
    with Session(address) as session:
        # a busy disk may take longer for it than the other session is patient
        session.execute("CREATE TABLE t (id INT)")
    with Session(replace(address, connect_timeout=5.0), read_timeout=0.5) as session:
        network.answer(says)
        with pytest.raises(ConnectionLost):
            ask(session)
        assert not session.is_open


def test_a_session_that_rested_is_asked_before_it_is_used(network: Network) -> None:
    with Session(Address.parse(network.url), read_timeout=600, rest=0.01) as session:
        session.execute("CREATE TABLE t (id INT)")
        network.forget()
        threading.Event().wait(0.02)  # the rest
        # By the sign of life: with the statement's own patience, this test would not end.
        with pytest.raises(ConnectionLost):
            session.execute("INSERT INTO t VALUES (1)")
    with Session(Address.parse(network.url)) as session:
        assert session.query("SELECT * FROM t") == []


def test_a_session_that_may_is_opened_anew_when_it_was_forgotten(network: Network) -> None:
    with Session(Address.parse(network.url), rest=0.01, renews=True) as session:
        before = session.connection_id
        network.forget()
        threading.Event().wait(0.02)  # the rest
        assert session.value("SELECT CONNECTION_ID()") != before


def test_it_is_not_in_the_middle_of_a_transaction(network: Network) -> None:
    with Session(Address.parse(network.url), rest=0.01, renews=True) as session:
        with session.exclusive():
            session.script("BEGIN; SELECT 1")
            network.forget()
            threading.Event().wait(0.02)  # a pause of the whole process, say
            with pytest.raises(ConnectionLost):
                session.execute("COMMIT")
        assert not session.is_open


def test_a_session_that_is_used_all_the_time_is_not_asked(url: str) -> None:
    with Session(Address.parse(url), rest=60) as session:
        session.execute("DO 1")
        ((_, before),) = session.query("SHOW SESSION STATUS LIKE 'Com_admin_commands'")
        session.select_int("SELECT 1")
        ((_, after),) = session.query("SHOW SESSION STATUS LIKE 'Com_admin_commands'")
        assert before == after


def test_closing_a_session_that_nobody_answers_does_not_wait(network: Network) -> None:
    session = Session(Address.parse(network.url), read_timeout=600).open()
    network.cut()
    session.close()
    assert not session.is_open


def test_tidb_is_refused(program: Program) -> None:
    if program.kind != "mariadb":
        pytest.skip("only MariaDB can be told to greet as another server")
    server = DevServer(program, ("--version=8.0.11-TiDB-v8.5.0",))
    with pytest.raises(UnsuitableServer, match=r"TiDB.*SKIP LOCKED"), server:
        pass


def test_a_server_that_calls_itself_tidb_is_refused(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(login, "_run", lambda *_: ("8.0.11-TiDB-v8.5.0", "shop", False))
    with pytest.raises(UnsuitableServer, match=r"TiDB.*SKIP LOCKED"):
        Session(Address.parse(url)).open()
