"""Names say whose they are: tables, spellings and users do not get into each other's way."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from kombu import Connection, Consumer, Queue

from celery_mysqllock.exceptions import LockTimeout, TableMismatch
from celery_mysqllock.jobs import JobTable, LockNames, Migrations, NewJob
from celery_mysqllock.locks import MySQLLock
from celery_mysqllock.mysql import Address, Session, lock_name, used_by
from devserver import DevServer
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from devserver.program import Program

OPTIONS = {"polling_interval": 0.2, "recovery_grace": 1.0}
DEAD = "d" * 32
ENVELOPE = '{"task": "t", "args": ["%s"]}'


class Fleet:
    """A consumer of the queue ``q`` in this process, and what it got."""

    def __init__(self, connection: Connection) -> None:
        self.got: list[Any] = []
        self._connection = connection
        self._consumer = Consumer(connection, [Queue("q")], on_message=self._note)
        self._consumer.consume()

    def _note(self, message: Any) -> None:
        self.got.append(message.payload[0][0])
        message.ack()

    def gets(self, number: int) -> bool:
        """Deliver for a moment; whether it has got so many."""
        with suppress(TimeoutError):
            self._connection.drain_events(timeout=0.02)
        return len(self.got) >= number


def test_each_table_of_a_database_has_a_housekeeper_of_its_own(
    session: Session, connect: Callable[..., Connection]
) -> None:
    tables = ["jobs", "jobs_b"]
    Migrations(session, "jobs_b").apply()
    fleets = {table: Fleet(connect(table=table, **OPTIONS)) for table in tables}
    for table in tables:
        jobs = JobTable(session, table)
        jobs.publisher.put(NewJob("q", ENVELOPE % "of a dead worker"))
        # its consumer may be faster
        if jobs.claims.claim("q", 1, DEAD) == []:
            session.execute(
                f"INSERT INTO {table} (message, queue, job_status, owner) VALUES (%s, 'q', 1, %s)",  # noqa: S608 - a name of this test
                (ENVELOPE % "of a dead worker", DEAD),
            )
        jobs.publisher.put(NewJob("q", ENVELOPE % "due later", delay=1))
        session.execute(
            f"INSERT INTO {table} (message, queue) VALUES (%s, 'q')",  # noqa: S608 - as above
            (ENVELOPE % "nobody rings",),
        )
    for table, fleet in fleets.items():
        kinds = {"of a dead worker", "due later", "nobody rings"}
        eventually(lambda fleet=fleet, kinds=kinds: fleet.gets(0) and set(fleet.got) == kinds)  # type: ignore[misc]
        names = LockNames.of(session, table)
        assert used_by(session, names.sweeper) is not None


@pytest.mark.parametrize(
    "name",
    [
        *("sweeper", "beat", "migrate", "bell:q:0", "bell", "~sweeper", ":sweeper"),
        *("consumer:{identity}", "jobs:sweeper", "~{place}:sweeper", "{place}:consumer:{identity}"),
    ],
)
@pytest.mark.parametrize("namespace", [None, "~{place}", "{place}", "~", "~bell", "jobs"])
def test_a_lock_of_a_user_is_never_one_of_ours(name: str, namespace: str | None) -> None:
    names = LockNames("shop.jobs")
    identity = "a" * 32
    values = {"place": names.qualified, "identity": identity}
    full = lock_name((namespace or "shop").format(**values), name.format(**values))
    own = {names.sweeper, names.beat, names.migrate, names.consumer(identity), *names.bells("q")}
    assert full not in own
    assert not full.startswith("~")
    assert all(one.startswith("~") for one in own)


def test_a_fleet_works_while_users_hold_locks_of_such_names(
    session: Session, connect: Callable[..., Connection]
) -> None:
    connection = connect(**OPTIONS)
    with ExitStack() as held:
        for name in ("sweeper", "beat", "bell:q:0", "bell", "consumer"):
            held.enter_context(MySQLLock(name, url=session.address))
        fleet = Fleet(connection)
        identity = connection.transport.dispatcher.identity
        held.enter_context(MySQLLock(f"consumer:{identity}", url=session.address))
        JobTable(session).publisher.put(NewJob("q", ENVELOPE % "due later", delay=1))
        eventually(lambda: fleet.gets(1))
        assert connection.transport.dispatcher.is_intact


def test_whatever_a_row_says_its_owner_is_can_be_named(
    session: Session, connect: Callable[..., Connection]
) -> None:
    owners = ["", " ", "a b", "~", "'", "A" * 32, "e" * 31, "\t", "%s", "\\"]
    session.execute("INSERT INTO jobs_consumers (identity, name, queues) VALUES ('', '', '[]')")
    for owner in owners:
        session.execute(
            "INSERT INTO jobs (message, queue, job_status, owner) VALUES (%s, 'q', 1, %s)",
            (ENVELOPE % owner.encode().hex(), owner),
        )
    session.execute("INSERT INTO jobs (message, queue) VALUES (%s, '')", (ENVELOPE % "no queue",))
    fleet = Fleet(connect(**OPTIONS))
    eventually(lambda: fleet.gets(len(owners)))
    assert set(fleet.got) == {owner.encode().hex() for owner in owners}
    eventually(lambda: session.query("SELECT queue FROM jobs") == [("",)])


@pytest.mark.parametrize(
    "database", ["shop", "Shop", "s h o p", "größe", "x" * 64, "a.b", "~x", "'"]
)
@pytest.mark.parametrize("table", ["jobs", "t" * 45, "Jobs$"])
def test_any_database_and_table_can_be_named(database: str, table: str) -> None:
    names = LockNames(f"{database}.{table}")
    found = [names.sweeper, names.beat, names.migrate, names.consumer("a" * 32), *names.bells("q")]
    assert len(set(found)) == len(found)
    assert all(len(name) <= 64 and name == name.lower() and name.isascii() for name in found)


def test_databases_and_tables_that_differ_have_locks_that_differ() -> None:
    places = ["a.b", "a.b_", "a.B", "A.b", "é.b", "e.b", f"{'x' * 30}.a", f"{'x' * 30}.b", "a~.b"]
    for kind in ("sweeper", "beat", "migrate"):
        assert len({getattr(LockNames(place), kind) for place in places}) == len(places)
    assert len({LockNames(place).bells("q")[0] for place in places}) == len(places)


# -- namespaces -----------------------------------------------------------------------------------


@pytest.mark.parametrize("namespace", ["elsewhere", "Größe 1", "n" * 300])
def test_a_table_refuses_another_namespace(url: str, namespace: str) -> None:
    options = {"create_table": True, "namespace": namespace}
    for again in range(2):
        with Connection(url, transport_options=options) as first:
            first.connect()
        for others in ({}, {"namespace": f"{namespace}2"}):
            other = Connection(url, transport_options={"create_table": bool(again), **others})
            with other, pytest.raises(TableMismatch, match="namespace"):
                other.connect()


def test_a_table_of_no_namespace_refuses_one(session: Session) -> None:
    url = session.address.url()
    for namespace in (None, session.database):
        with Connection(url, transport_options={"namespace": namespace}) as same:
            same.connect()
    other = Connection(url, transport_options={"namespace": "elsewhere"})
    with other, pytest.raises(TableMismatch, match="'elsewhere'"):
        other.connect()


def test_migrate_gives_a_table_another_namespace_when_no_consumer_lives(
    session: Session, connect: Callable[..., Connection]
) -> None:
    Fleet(connect(**OPTIONS))
    moving = Migrations(session, namespace="elsewhere", renames=True)
    assert [step.name for step in moving.pending()] == ["namespace"]
    with pytest.raises(TableMismatch, match="1 living consumer"):
        moving.apply()
    Migrations(session, namespace=session.database).check()


def test_migrate_gives_an_idle_table_another_namespace(session: Session) -> None:
    moving = Migrations(session, namespace="elsewhere", renames=True)
    assert [step.name for step in moving.apply()] == ["namespace"]
    assert moving.pending() == []
    moving.check()
    with pytest.raises(TableMismatch, match="belongs to programs of the namespace 'elsewhere'"):
        Migrations(session, namespace=session.database).check()
    # who does not know of namespaces, such as the command with a URL, gets along with any
    Migrations(session).check()
    assert Migrations(session, renames=True).pending() == []


# -- a server to which "Shop" and "shop" are one --------------------------------------------------


@pytest.fixture(scope="module")
def folding(program: Program) -> Iterator[str]:
    """The URL of a database ``shop`` on a server that folds the case of names."""
    # MySQL wants to be told when it makes its data directory
    options = (*program.options, "--lower-case-table-names=1")
    own = replace(program, version=f"{program.version} folding", options=options)
    with DevServer(own) as server:
        yield server.create_database("shop")


@pytest.fixture
def spellings(folding: str) -> tuple[Address, Address]:
    address = Address.parse(folding)
    with Session(address) as session:
        session.execute("DROP DATABASE shop")
        session.execute("CREATE DATABASE shop")
    with Session(address) as session:
        Migrations(session).apply()
    return address, replace(address, database="Shop")


def test_two_spellings_of_a_database_are_one_fleet(spellings: tuple[Address, Address]) -> None:
    names = []
    for address in spellings:
        for table in ("jobs", "Jobs"):
            with Session(address) as session:
                names.append(LockNames.of(session, table))
    assert set(names) == {LockNames("shop.jobs")}
    with ExitStack() as open_ones:
        fleets = []
        for address in spellings:
            connection = Connection(address.url(), transport_options=OPTIONS)
            open_ones.enter_context(connection).connect()
            fleets.append(Fleet(connection))
        session = open_ones.enter_context(Session(spellings[0]))
        kept = "INSERT INTO jobs (message, queue, job_status, owner) VALUES ('kept', 'q', 1, %s)"
        session.execute(kept, (connection.transport.dispatcher.identity,))
        # whoever sweeps, who spells it differently is not dead
        eventually(lambda: _has_swept(session))
        assert session.query("SELECT job_status FROM jobs WHERE message = 'kept'") == [(1,)]


def _has_swept(session: Session) -> bool:
    """Whether the claims of a dead consumer have been given back since this was called first."""
    if session.value("SELECT COUNT(*) FROM jobs WHERE message = 'orphan'") == 0:
        session.execute(
            "INSERT INTO jobs (message, queue, job_status, owner) VALUES ('orphan', 'x', 1, %s)",
            (DEAD,),
        )
    return bool(session.value("SELECT COUNT(*) FROM jobs WHERE queue = 'x' AND job_status = 0"))


@pytest.mark.parametrize("limit", [1, 2])
def test_two_spellings_of_a_database_have_the_same_locks(
    spellings: tuple[Address, Address], limit: int
) -> None:
    one, other = (MySQLLock("it", url=address, limit=limit) for address in spellings)
    more = [MySQLLock("it", url=spellings[1], limit=limit) for _ in range(limit - 1)]
    with one:
        assert other.locked()
        assert all(lock.acquire() for lock in more)
        with pytest.raises(LockTimeout, match="shop:it"), other:
            pass
        for lock in more:
            lock.release()
    with other:
        assert one.locked()
        assert other.name == one.name


def test_two_spellings_of_a_database_ring_the_same_bells(
    spellings: tuple[Address, Address],
) -> None:
    # the sweeper must not come to the help of a bell that nobody rings
    options = {**OPTIONS, "polling_interval": 60}
    with Connection(spellings[1].url(), transport_options=options) as connection:
        connection.connect()
        fleet = Fleet(connection)
        with Session(spellings[0]) as session:
            bells = LockNames.of(session, "jobs").bells("q")
            puts: list[Callable[[], object]] = [
                lambda: JobTable(session).publisher.put(NewJob("q", ENVELOPE % "put")),
                lambda: session.query("CALL mysqllock_publish('q', %s)", (ENVELOPE % "called",)),
            ]
            for number, put in enumerate(puts, 1):
                eventually(lambda: not fleet.gets(99) and any(used_by(session, b) for b in bells))
                put()
                eventually(lambda number=number: fleet.gets(number), within=10)  # type: ignore[misc]
