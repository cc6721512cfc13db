"""A server that cannot do what it is asked: a clear error, nothing lost, and the worker goes on."""

from __future__ import annotations

import contextlib
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from kombu import Connection
from kombu.exceptions import OperationalError

from celery_mysqllock.exceptions import (
    DatabaseError,
    MessageTooLarge,
    MissingPrivilege,
    NoSuchSession,
    ReadOnlyServer,
    SettingsError,
)
from celery_mysqllock.mysql import Address, Server, Session
from tests.broker.app import add, app, note
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from devserver import DevServer
    from tests.broker.worker import Worker

StartWorker = "Callable[..., Worker]"


def ledger(session: Session) -> list[str]:
    return [row[0] for row in session.query("SELECT entry FROM ledger ORDER BY entry")]


def publish(connection: Connection, **options: Any) -> None:
    with connection.Producer() as producer:
        producer.publish("x", routing_key="elsewhere", **options)


@pytest.fixture
def server(own: DevServer) -> DevServer:
    """These tests change what holds for all users of a server, so it is theirs alone."""
    return own


@pytest.fixture(scope="module")
def own(start_server: Callable[..., DevServer]) -> DevServer:
    return start_server("--max-allowed-packet=1M")


@pytest.fixture
def user(session: Session) -> Iterator[Callable[[str], Address]]:
    """Makes a login with these privileges on the test's database."""
    made: list[str] = []

    def make(privileges: str) -> Address:
        name = f"u{session.connection_id}_{len(made)}"
        session.execute("CREATE USER %s@'%%' IDENTIFIED BY 'secret'", (name,))
        session.execute(f"GRANT {privileges} ON `{session.address.database}`.* TO %s@'%%'", (name,))
        made.append(name)
        return replace(session.address, user=name, password="secret")  # noqa: S106 - a throw-away user

    yield make
    for name in made:
        session.execute("DROP USER %s@'%%'", (name,))


@pytest.mark.usefixtures("producer_url")
@pytest.mark.parametrize("size", [1_100_000, 8_000_000, 40_000_000])
def test_a_message_above_max_allowed_packet_is_refused_and_the_next_one_is_not(
    session: Session, size: int
) -> None:
    with pytest.raises(MessageTooLarge, match="max_allowed_packet"):
        note.delay("x" * size)
    note.delay("small")
    assert session.value("SELECT COUNT(*) FROM jobs") == 1


@pytest.mark.usefixtures("producer_url")
def test_a_queue_name_that_is_too_long_is_refused(session: Session) -> None:
    with pytest.raises(SettingsError, match="has 256 characters; 255 are allowed"):
        note.apply_async(("x",), queue="q" * 256)
    assert session.query("SELECT 1 FROM jobs") == []


def test_a_worker_on_a_queue_with_too_long_a_name_says_so(
    start_worker: Callable[..., Worker],
) -> None:
    with pytest.raises(AssertionError, match="255 are allowed"):
        start_worker("-Q", "q" * 256)


def test_a_server_that_is_too_old_is_refused(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = Server.from_greeting("5.6.51-log")
    monkeypatch.setattr(Session, "server", property(lambda _: old))
    with pytest.raises(DatabaseError, match=r"is MySQL 5\.6\.51; MySQL 5\.7 or MariaDB 10\.4"):
        Connection(session.address.url()).connect()


def test_a_server_without_skip_locked_is_refused_where_the_option_asks_for_it(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = Server.from_greeting("5.7.44-log")
    monkeypatch.setattr(Session, "server", property(lambda _: old))
    with pytest.raises(SettingsError, match=r"contradicts the server: MySQL 5\.7\.44"):
        Connection(
            session.address.url(), transport_options={"claim_method": "skip_locked"}
        ).connect()


def test_a_user_that_may_only_read_is_told_what_it_lacks(
    user: Callable[[str], Address], session: Session
) -> None:
    with (
        Connection(user("SELECT").url()) as connection,
        pytest.raises(MissingPrivilege, match="INSERT command denied"),
    ):
        publish(connection, retry=True)
    assert session.query("SELECT 1 FROM jobs") == []


def test_a_worker_that_may_only_read_says_what_it_lacks(
    user: Callable[[str], Address], start_worker: Callable[..., Worker]
) -> None:
    with pytest.raises(AssertionError, match=r"Ask for a GRANT of what the message names.*INSERT"):
        start_worker(BROKER_URL=user("SELECT").url())


@pytest.fixture
def writable(session: Session) -> Iterator[None]:
    yield
    session.execute("SET GLOBAL read_only = 0")


@pytest.mark.usefixtures("producer_url", "writable")
@pytest.mark.parametrize("loses_its_sessions", [False, True])
@pytest.mark.parametrize("pool", ["prefork", "solo", "gevent"])
def test_while_the_server_is_read_only_publishing_fails_and_the_worker_waits(
    session: Session,
    user: Callable[[str], Address],
    start_worker: Callable[..., Worker],
    pool: str,
    loses_its_sessions: bool,
) -> None:
    poor = user("ALL")
    worker = start_worker("--pool", pool, BROKER_URL=poor.url())
    note.delay("before")
    eventually(lambda: ledger(session) == ["before"])
    open_before = Connection(poor.url())
    publish(open_before)
    session.execute("SET GLOBAL read_only = 1")
    # an administrator may still write
    note.delay("meanwhile")
    with pytest.raises(ReadOnlyServer, match="Point the URL at the primary"):
        publish(open_before)
    # what Celery's users catch after its own retries
    with pytest.raises(OperationalError, match="Point the URL at the primary"):
        publish(open_before, retry=True, retry_policy={"max_retries": 1})
    with pytest.raises(OperationalError), Connection(poor.url()) as opened_now:
        publish(opened_now)
    worker.await_log("takes no writes")
    if loses_its_sessions:
        mine = "SELECT id FROM information_schema.processlist WHERE user = %s"
        for (one,) in session.query(mine, (poor.user,)):
            with contextlib.suppress(NoSuchSession):
                session.execute("KILL %s", (one,))
        if pool != "gevent":  # there Celery's heartbeat waits for the connection, unseen
            worker.await_log("Connection to broker lost")
            worker.await_log("Cannot connect to", within=60)
    assert ledger(session) == ["before"]
    session.execute("SET GLOBAL read_only = 0")
    eventually(lambda: ledger(session) == ["before", "meanwhile"] or worker.has_ended, within=90)
    assert not worker.has_ended, worker.log
    eventually(lambda: session.query("SELECT queue FROM jobs") == [("elsewhere",)])
    open_before.release()


@pytest.fixture
def disk(url: str) -> Iterator[Callable[[int], None]]:
    """Puts the test's database on a disk of its own, of so many MiB."""
    with Session(Address.parse(url)) as session:
        if session.server.is_mariadb:
            pytest.skip("MariaDB 10.11 ends itself when a table's file cannot grow")
        folder = f"{session.value('SELECT @@datadir')}{session.address.database}"

    def mount(mib: int, *options: str) -> None:
        sized = ",".join((*options, f"size={mib}m"))
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", sized, "none", folder], check=False)
        if mounted.returncode:
            pytest.skip("this user may not mount a small disk")

    mount(24)
    yield lambda mib: mount(mib, "remount")
    with Session(Address.parse(url)) as session:
        for table, _ in session.query("SHOW FULL TABLES WHERE table_type = 'BASE TABLE'"):
            session.execute(f"DROP TABLE {table}")
    subprocess.run(["umount", folder], check=True)


def test_while_the_disk_is_full_publishing_fails_and_what_was_confirmed_runs_later(
    disk: Callable[[int], None],
    session: Session,
    producer_url: None,
    start_worker: Callable[..., Worker],
) -> None:
    worker = start_worker("--pool", "solo")
    confirmed: list[str] = []
    numbers = (str(number) for number in range(1_000))
    with pytest.raises(OperationalError, match="no room left on its disk"):
        confirmed.extend(add.apply_async(("x" * 100_000, one), queue="later").id for one in numbers)
    assert len(confirmed) > 10
    assert not worker.has_ended, worker.log
    disk(256)
    app.control.add_consumer("later")
    for one in confirmed:
        worker.await_log(f"Task add[{one}] succeeded", within=60)
    eventually(lambda: session.query("SELECT id FROM jobs") == [])
