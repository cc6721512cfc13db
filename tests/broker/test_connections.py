"""How a broker's connection is made: options, lists of servers, TLS, sockets, logins, forks."""

from __future__ import annotations

import contextlib
import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import pytest
from celery import Celery
from kombu import Connection, Consumer, Queue

from celery_mysqllock.app import lock_address, lock_settings
from celery_mysqllock.beat import Scheduler
from celery_mysqllock.cli.deployment import Deployment
from celery_mysqllock.exceptions import (
    CannotConnect,
    DatabaseError,
    LoginRefused,
    NoSuchSession,
    SettingsError,
)
from celery_mysqllock.jobs import Migrations
from celery_mysqllock.mysql import Address, Session
from celery_mysqllock.tasks import lock_for, single_instance
from tests.broker.app import add, app, note
from tests.broker.commands import celery
from tests.broker.worker import Worker
from tests.certificates import Authority
from tests.forking import in_child
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kombu.transport.virtual import Message

    from devserver import DevServer

StartWorker = "Callable[..., Worker]"
NOWHERE = "mysql://u:p@127.0.0.1:1/x"
PASSWORD = "pa:ss@w/or#d?;%&=ü"  # noqa: S105 - a throw-away user's


def publish(connection: Connection, body: object) -> None:
    with connection.Producer() as producer:
        producer.publish(body, routing_key="q", retry=True, retry_policy={"max_retries": 3})


def get(connection: Connection) -> Message | None:
    return Queue("q")(connection.default_channel).get()


def works(connection: Connection) -> bool:
    """Whether a message comes through; the connection is released."""
    with connection:
        publish(connection, "through")
        message = get(connection)
        if message is not None:
            message.ack()
        return message is not None and message.payload == "through"


def bodies(session: Session) -> list[str]:
    rows = session.query("SELECT JSON_UNQUOTE(JSON_EXTRACT(message, '$.body')) FROM jobs")
    return sorted(row[0] for row in rows)


# -- logins -----------------------------------------------------------------------------------


@pytest.fixture
def login(session: Session) -> Iterator[Callable[[str, str], Address]]:
    """Makes a user with these words behind CREATE USER, and all privileges on the database."""
    made: list[str] = []

    def make(words: str, password: str) -> Address:
        name = f"u{session.connection_id}_{len(made)}"
        try:
            session.execute(f"CREATE USER %s@'%%' {words}", (name, password))
        except DatabaseError as error:
            pytest.skip(f"this server has no such login: {error}")
        made.append(name)
        session.execute(f"GRANT ALL ON `{session.address.database}`.* TO %s@'%%'", (name,))
        return replace(session.address, user=name, password=password)

    yield make
    for name in made:
        session.execute("DROP USER %s@'%%'", (name,))


@pytest.mark.parametrize(
    "words",
    [
        "IDENTIFIED BY %s",
        "IDENTIFIED WITH caching_sha2_password BY %s",
        "IDENTIFIED WITH sha256_password BY %s",
        "IDENTIFIED WITH mysql_native_password BY %s",
        "IDENTIFIED VIA mysql_native_password USING PASSWORD(%s)",
        "IDENTIFIED VIA ed25519 USING PASSWORD(%s)",
    ],
)
def test_logins_of_each_kind_work(
    session: Session, login: Callable[[str, str], Address], words: str
) -> None:
    if "ed25519" in words:
        if importlib.util.find_spec("nacl") is None:
            pytest.skip("PyMySQL needs PyNaCl for ed25519: pip install PyMySQL[ed25519]")
        with contextlib.suppress(DatabaseError):
            session.execute("INSTALL SONAME 'auth_ed25519'")
    address = login(words, PASSWORD)
    # twice: caching_sha2_password asks for less the second time
    assert works(Connection(address.url()))
    assert works(Connection(address.url()))
    with pytest.raises(LoginRefused) as caught:
        Connection(replace(address, password=PASSWORD[:-1]).url()).connect()
    assert PASSWORD[:-1] not in str(caught.value)


def test_a_user_without_a_password_logs_in(login: Callable[[str, str], Address]) -> None:
    assert works(Connection(login("IDENTIFIED BY %s", "").url()))


# -- URLs -------------------------------------------------------------------------------------


def test_the_options_of_a_url_reach_the_server_through_every_copy_of_the_connection(
    session: Session,
) -> None:
    url = f"{session.address.url()}?connect_timeout=7"
    with Connection(url) as connection, connection.clone() as copy:
        for one in (connection, copy):
            assert works(one)
            assert one.transport.establish_connection().sessions.address.connect_timeout == 7


def test_a_url_is_taken_apart_when_the_connection_is_made(session: Session) -> None:
    address = session.address
    for urls in (f"{address.url()}?ssl_mode=REQUIRED", [address.url(), NOWHERE]):
        with Connection(urls) as connection:
            parts = (connection.hostname, connection.port, connection.userid, connection.password)
            assert parts == (address.host, address.port, address.user, address.password)
            assert connection.virtual_host == address.database
            assert connection.host == f"{address.host}:{address.port}"
    assert Connection(f"{address.url()}?ssl_mode=REQUIRED").ssl == {"ssl_mode": "REQUIRED"}
    assert Connection("mysql://u@h/d").port == 3306


def test_a_url_of_another_transport_stays_what_it_is() -> None:
    connection = Connection("sqla+mysql://u:p@h:7/d")
    assert (connection.transport_cls, connection.hostname) == ("sqla", "mysql://u:p@h:7/d")


def test_a_wrong_url_is_refused_without_its_password() -> None:
    with pytest.raises(SettingsError) as caught:
        Connection("mysql://u:hush/hush@host:port/d")
    assert "hush" not in str(caught.value)


def socket_of(session: Session) -> str:
    with contextlib.closing(Session(session.address).open()) as beside:
        ((folder, socket),) = beside.query("SELECT @@datadir, @@socket")
    return str(Path(folder) / socket)


def test_a_unix_socket_is_used(session: Session) -> None:
    # a port that nobody listens on, so that it cannot be that
    url = f"{replace(session.address, port=1).url()}?unix_socket={quote(socket_of(session))}"
    with Connection(url) as connection:
        assert works(connection.clone())
        assert works(connection)
        assert "**" in connection.as_uri()
        assert session.address.password not in connection.as_uri()


# -- several servers --------------------------------------------------------------------------


def test_the_next_url_is_used_when_the_first_server_is_dead(session: Session) -> None:
    url = f"{NOWHERE};{session.address.url()}?connect_timeout=7"
    assert works(Connection(url))
    assert works(Connection([NOWHERE, session.address.url()]))


def test_the_error_of_a_dead_server_is_raised_when_all_are_dead() -> None:
    with pytest.raises(CannotConnect):
        Connection(f"{NOWHERE};{NOWHERE}").connect()


def test_each_url_of_a_list_is_checked_at_start(session: Session) -> None:
    with pytest.raises(SettingsError, match="unknown option 'conect_timeout'"):
        Connection(f"{session.address.url()};{NOWHERE}?conect_timeout=7").connect()


def test_a_unix_socket_may_be_one_of_several_urls(session: Session) -> None:
    url = f"{replace(session.address, port=1).url()}?unix_socket={quote(socket_of(session))}"
    for urls in (f"{NOWHERE};{url}", [NOWHERE, url]):
        with Connection(urls) as connection:
            assert works(connection)
            assert connection.hostname == socket_of(session)


def test_a_worker_goes_on_with_the_second_server_when_the_first_dies(
    session: Session, start_server: Callable[..., DevServer], start_worker: Callable[..., Worker]
) -> None:
    first, second = start_server(), session.address.url()
    with Session(Address.parse(first.url)) as other:
        Migrations(other).apply()
        stays = "INSERT INTO jobs (message, queue) VALUES ('{\"task\": \"add\"}', 'elsewhere')"
        other.execute(stays)
    worker = start_worker(BROKER_URL=f"{first.url};{second}")
    insert = 'INSERT INTO jobs (message) VALUES (\'{"task": "add", "args": [1, %s]}\')'
    with Session(Address.parse(first.url)) as other:
        other.execute(insert, (2,))
        worker.await_log("succeeded")
        # what was acknowledged is on disk a moment later
        eventually(lambda: not other.query("SELECT id FROM jobs WHERE queue = 'celery'"))
    assert worker.log.count("succeeded") == 1
    first.kill()
    session.execute(insert, (4,))
    worker.await_log("Will retry using next failover")
    eventually(lambda: worker.log.count("succeeded") == 2)
    assert session.query("SELECT id FROM jobs WHERE queue = 'elsewhere'") == []
    first.start()
    with Session(Address.parse(first.url)) as other:
        assert other.query("SELECT queue, job_status FROM jobs") == [("elsewhere", 0)]


# -- TLS --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def encrypting(start_server: Callable[..., DevServer], authority: Authority) -> DevServer:
    """A server whose user ``tls`` may come in encrypted only."""
    own = authority.sign("127.0.0.1")
    server = start_server(
        f"--ssl-ca={authority.ca}", f"--ssl-cert={own.cert}", f"--ssl-key={own.key}"
    )
    with Session(Address.parse(server.url)) as session:
        Migrations(session).apply()
        session.execute("CREATE USER tls@'%' IDENTIFIED BY 'secret' REQUIRE SSL")
        session.execute(f"GRANT ALL ON `{session.address.database}`.* TO tls@'%'")
    return server


@pytest.fixture
def encrypted(encrypting: DevServer) -> Address:
    return replace(Address.parse(encrypting.url), user="tls", password="secret")  # noqa: S106


def test_celerys_broker_use_ssl_encrypts(encrypted: Address, authority: Authority) -> None:
    for options in (
        {"ssl_mode": "VERIFY_CA", "ssl_ca": str(authority.ca)},
        {"ca_certs": str(authority.ca), "cert_reqs": "CERT_REQUIRED"},
    ):
        assert works(Connection(encrypted.url(), ssl=options))
        # the list's second URL too
        assert works(Connection(f"{NOWHERE};{encrypted.url()}", ssl=options))
    # True is the strictest, and the system does not know the tests' authority
    with pytest.raises(CannotConnect, match="certificate"):
        Connection(encrypted.url(), ssl=True).connect()


def test_what_the_url_says_of_tls_goes_before_broker_use_ssl(
    encrypted: Address, authority: Authority, tmp_path: Path
) -> None:
    stranger = str(Authority(tmp_path, "nobody the server knows").ca)
    right, wrong = (
        {"ssl_mode": "VERIFY_CA", "ssl_ca": path} for path in (str(authority.ca), stranger)
    )
    url, misled = (f"{encrypted.url()}?{urlencode(options)}" for options in (right, wrong))
    assert works(Connection(url, ssl=wrong))
    assert works(Connection(f"{NOWHERE};{url}", ssl=wrong))
    with pytest.raises(CannotConnect, match="certificate"):
        Connection(misled, ssl=right).connect()
    for place, options, works_there in ((url, wrong, True), (misled, right, False)):
        assert all(opens(address) is works_there for address in everywhere(place, options))


def test_locks_beats_and_commands_use_the_brokers_tls(
    encrypted: Address, authority: Authority, tmp_path: Path
) -> None:
    stranger = str(Authority(tmp_path, "nobody the server knows").ca)
    for ca, works_there in ((str(authority.ca), True), (stranger, False)):
        options = {"ssl_mode": "VERIFY_CA", "ssl_ca": ca}
        for own_url in (None, encrypted.url()):
            found = everywhere(encrypted.url(), options, own_url)
            assert [opens(address) for address in found] == [works_there] * len(found)


def test_a_tasks_lock_verifies_the_server_as_the_broker_does(
    encrypted: Address, authority: Authority, tmp_path: Path
) -> None:
    stranger = str(Authority(tmp_path, "nobody the server knows").ca)
    for ca in (str(authority.ca), stranger):
        app = Celery("tls", broker=encrypted.url(), set_as_current=False)
        app.conf.broker_use_ssl = {"ssl_mode": "VERIFY_CA", "ssl_ca": ca}
        task = app.task(single_instance(locked), lazy=False, shared=False)
        if ca == stranger:
            with pytest.raises(CannotConnect, match="certificate"):
                lock_for(task).acquire(wait=0)
        else:
            with lock_for(task):
                assert lock_for(task).locked()


def locked() -> None:
    """A task that runs alone."""


def everywhere(url: str, options: dict[str, str], own_url: str | None = None) -> list[Address]:
    """Where the locks, the beats and the commands of an app log in."""
    app = Celery("tls", broker=url, set_as_current=False)
    app.conf.update(broker_use_ssl=options, mysqllock_url=own_url)
    locks, beat = lock_address(lock_settings(app)), Scheduler.__new__(Scheduler)
    assert locks is not None
    beat.app = app
    beat.read_settings()
    return [locks, *beat.servers, *Deployment(app).addresses]


def opens(address: Address) -> bool:
    try:
        Session(address).open().close()
    except CannotConnect:
        return False
    return True


@pytest.mark.parametrize("pool", ["prefork", "gevent"])
def test_a_worker_runs_tasks_over_tls(
    encrypted: Address, authority: Authority, tmp_path: Path, pool: str
) -> None:
    url = f"{encrypted.url()}?ssl_mode=VERIFY_CA&ssl_ca={quote(str(authority.ca), safe='')}"
    worker = Worker(url, tmp_path / "worker.log", "--pool", pool)
    try:
        worker.await_ready()
        with Connection(url) as connection:
            sent = add.apply_async((1, 2), connection=connection)
            worker.await_log(f"Task add[{sent.id}] succeeded")
            assert worker.stop() == 0
    finally:
        worker.kill()


# -- forks ------------------------------------------------------------------------------------


def test_parent_and_child_publish_after_a_fork(session: Session) -> None:
    with Connection(session.address.url()) as connection:
        publish(connection, "before")
        connection_id = connection.transport.sessions.main.connection_id

        def child() -> None:
            publish(connection, "child")
            assert connection.transport.sessions.main.connection_id != connection_id

        in_child(child)
        publish(connection, "after")
        assert connection.transport.sessions.main.connection_id == connection_id
    assert bodies(session) == ["after", "before", "child"]


@pytest.mark.usefixtures("producer_url")
def test_tasks_are_sent_by_parent_and_child_after_a_fork(session: Session) -> None:
    note.delay("before")
    in_child(lambda: note.delay("child"))
    note.delay("after")
    assert len(bodies(session)) == 3


def test_a_child_that_closes_its_copy_leaves_the_parents_consumer_alone(
    session: Session,
) -> None:
    received: list[Message] = []
    with (
        Connection(session.address.url()) as connection,
        Consumer(connection, [Queue("q")], on_message=received.append),
    ):
        publish(connection, "first")
        connection.drain_events(timeout=20)
        in_child(connection.release)
        assert session.query("SELECT job_status FROM jobs") == [(1,)]
        received[0].ack()
        eventually(lambda: session.query("SELECT job_status FROM jobs") == [])
        publish(connection, "second")
        connection.drain_events(timeout=20)
        received[1].ack()
    assert [message.payload for message in received] == ["first", "second"]


# -- the password -----------------------------------------------------------------------------


def command_lines() -> str:
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has just ended
            lines.append(path.read_text(errors="replace"))
    return "\n".join(lines)


@pytest.mark.usefixtures("producer_url")
@pytest.mark.parametrize("pool", ["prefork", "gevent"])
def test_a_worker_never_shows_the_password(
    session: Session, start_worker: Callable[..., Worker], pool: str
) -> None:
    url = session.address.url()
    worker = start_worker("--loglevel=DEBUG", "--pool", pool, "-E")
    note.delay("one")
    eventually(lambda: session.query("SELECT entry FROM ledger") == [("one",)])
    said = [celery(url, *command.split(), "--timeout=3") for command in ("inspect stats", "status")]
    said += [celery(url, "inspect", "conf", "--timeout=3"), celery(url, "report")]
    running = command_lines()
    assert "celery" in running
    mine = "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> %s"
    for (one,) in session.query(mine, (session.connection_id,)):
        with contextlib.suppress(NoSuchSession):
            session.execute("KILL %s", (one,))
    worker.await_log("Connection to broker lost")
    note.delay("two")
    eventually(lambda: len(session.query("SELECT entry FROM ledger")) == 2)
    assert worker.stop() == 0
    for shown in (worker.log, running, *said):
        assert session.address.password not in shown


def test_no_repr_and_no_error_shows_the_password(session: Session) -> None:
    password = session.address.password
    with Connection(f"{session.address.url()};{NOWHERE}") as connection:
        connection.connect()
        transport = connection.transport
        shown: list[Any] = [connection, connection.as_uri(), transport, transport.sessions.address]
        shown += [transport.sessions.main, transport.sessions.jobs, connection.default_channel]
        shown += [transport.settings, app.connection_for_write(session.address.url())]
    info = Connection(session.address.url()).info()
    del info["password"]  # as `celery inspect stats` does
    shown += [json.dumps(info, default=str)]
    wrong = replace(session.address, port=1).url()
    with pytest.raises(CannotConnect) as caught:
        Connection(wrong).connect()
    error: BaseException | None = caught.value
    while error is not None:
        shown += [error, *error.args]
        error = error.__cause__ or error.__context__
    for one in shown:
        assert password not in f"{one} {one!r}"
