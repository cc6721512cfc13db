"""An existing three-column table becomes ours while its programs go on to use it."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.exceptions import ConnectionLost, MissingPrivilege, TableMismatch
from celery_mysqllock.jobs import JobTable, Migrations
from celery_mysqllock.mysql import Address, Session
from celery_mysqllock.mysql.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ME = "a" * 32
ID = "id INT AUTO_INCREMENT PRIMARY KEY"
# What other programs have made of "jobs(id, message, job_status)".
SHAPES = {
    "a short message": f"({ID}, message VARCHAR(255), job_status INT DEFAULT 0)",
    "no default": f"({ID}, message TEXT NOT NULL, job_status TINYINT(1))",
    "another character set": f"({ID}, message VARCHAR(900) CHARACTER SET latin1, job_status INT)",
    "an index for the old consumers": (
        f"({ID}, message TEXT, job_status INT NOT NULL DEFAULT 0, KEY todo (job_status, id))"
    ),
    "an old row format": (
        f"({ID}, message TEXT, job_status SMALLINT NOT NULL DEFAULT 0) ROW_FORMAT = COMPACT"
    ),
    "a comment": f"({ID}, message LONGTEXT, job_status INT DEFAULT 0) COMMENT = 'ask Ada'",
    "ours": "(id BIGINT AUTO_INCREMENT PRIMARY KEY, message LONGTEXT NOT NULL, job_status INT)",
}
OTHERS = {
    "it is a view": ("VIEW jobs AS SELECT 1 AS id, 'x' AS message, 0 AS job_status", "a view"),
    "MyISAM": (
        f"TABLE jobs ({ID}, message TEXT, job_status INT) ENGINE = MyISAM",
        "engine is MyISAM and not InnoDB.*ALTER TABLE jobs ENGINE = InnoDB",
    ),
    "no AUTO_INCREMENT": (
        "TABLE jobs (id INT PRIMARY KEY, message TEXT, job_status INT)",
        "id is not AUTO_INCREMENT",
    ),
    "another primary key": (
        "TABLE jobs (id INT AUTO_INCREMENT UNIQUE, message TEXT, job_status INT PRIMARY KEY)",
        "its primary key is not id",
    ),
    "few ids": (
        "TABLE jobs (id SMALLINT AUTO_INCREMENT PRIMARY KEY, message TEXT, job_status INT)",
        "id is smallint and not one of int, bigint",
    ),
    "a message of bytes": (f"TABLE jobs ({ID}, message BLOB, job_status INT)", "message is blob"),
    "a status of words": (
        f"TABLE jobs ({ID}, message TEXT, job_status ENUM('new', 'done'))",
        "job_status is enum",
    ),
    "a key with the message": (
        f"TABLE jobs ({ID}, message VARCHAR(90), job_status INT, KEY text (message))",
        "key text has message in it",
    ),
    "a key with a name of ours": (
        f"TABLE jobs ({ID}, message TEXT, job_status INT, KEY claim (job_status))",
        "a key claim",
    ),
    "a fourth column": (
        f"TABLE jobs ({ID}, message TEXT, job_status INT, created INT)",
        "created is not ours",
    ),
}


def columns(session: Session, table: str) -> list[tuple[str, ...]]:
    rows = session.query(
        "SELECT column_name, column_type, is_nullable FROM information_schema.columns "
        "WHERE table_schema = DATABASE() AND table_name = %s ORDER BY ordinal_position",
        (table,),
    )
    return [tuple(map(str, row)) for row in rows]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_table_of_any_such_shape_is_taken_over_with_its_rows(
    session: Session, shape: str
) -> None:
    session.execute(f"CREATE TABLE jobs {shape}")
    session.execute("INSERT INTO jobs (message, job_status) VALUES ('one', 0), ('done', 1)")
    Migrations(session).apply()
    Migrations(session).check()
    session.execute("INSERT INTO jobs (message) VALUES (%s)", ("\U0001f980" * 70_000,))
    found = session.query("SELECT * FROM jobs ORDER BY id")
    assert [row[1:3] for row in found] == [("one", 0), ("done", 1), ("\U0001f980" * 70_000, 0)]
    claimed = JobTable(session).claims.claim("celery", 5, ME)
    assert [job.message for job in claimed] == ["one", "\U0001f980" * 70_000]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_it_has_the_columns_and_keys_of_a_new_table(session: Session, shape: str) -> None:
    session.execute(f"CREATE TABLE jobs {shape}")
    Migrations(session).apply()
    Migrations(session, "fresh").apply()
    assert [name for name, *_ in columns(session, "jobs")[:3]] == ["id", "message", "job_status"]
    assert columns(session, "jobs")[3:] == columns(session, "fresh")[3:]
    keys = [{row[2] for row in session.query(f"SHOW KEYS FROM {t}")} for t in ("jobs", "fresh")]
    assert keys[0] - {"todo"} == keys[1]


@pytest.mark.parametrize(("made", "difference"), OTHERS.values(), ids=OTHERS)
def test_a_table_that_is_something_else_is_refused_with_the_difference(
    session: Session, made: str, difference: str
) -> None:
    session.execute(f"CREATE {made}")
    before = session.query("SHOW CREATE TABLE jobs")
    with pytest.raises(TableMismatch, match=difference):
        Migrations(session).apply()
    assert session.query("SHOW CREATE TABLE jobs") == before


def test_a_row_without_a_status_is_nobodys(session: Session) -> None:
    session.execute(f"CREATE TABLE jobs ({ID}, message TEXT, job_status INT)")
    session.execute("INSERT INTO jobs (message, job_status) VALUES ('never taken', NULL)")
    Migrations(session).apply()
    assert JobTable(session).claims.claim("celery", 5, ME) == []
    assert session.query("SELECT message, job_status FROM jobs") == [("never taken", None)]


def test_what_old_consumers_have_taken_is_neither_delivered_nor_removed(session: Session) -> None:
    session.execute(f"CREATE TABLE jobs ({ID}, message TEXT, job_status INT DEFAULT 0)")
    session.execute("INSERT INTO jobs (message, job_status) VALUES ('taken', 1)")
    Migrations(session).apply()
    jobs = JobTable(session, retains=True)
    assert jobs.claims.claim("celery", 5, ME) == []
    assert jobs.maintenance.survey().owners == set()
    session.execute("INSERT INTO jobs (message) VALUES ('ours')")
    jobs.claims.ack([job.id for job in jobs.claims.claim("celery", 5, ME)], ME)
    assert session.value("SELECT COUNT(*) FROM jobs WHERE finished_at IS NOT NULL") == 1
    session.execute("UPDATE jobs SET finished_at = NOW() - INTERVAL 1 DAY WHERE finished_at > 0")
    assert jobs.maintenance.remove_finished(60) == 1
    assert session.query("SELECT message FROM jobs") == [("taken",)]


class Killed(BaseException):
    """The migrating process is killed."""


class Mortal(Session):
    """A session whose process is killed before or after one of its changes.

    Args:
        address: Where to log in.
        life: How many changes it makes before.
        is_done: Whether the server does the last one.
    """

    def __init__(self, address: Address, life: int, *, is_done: bool) -> None:
        super().__init__(address)
        self.life = life
        self._is_done = is_done

    def execute(self, sql: str, parameters: object = None) -> int:
        if not sql.startswith(("ALTER", "CREATE", "UPDATE", "DROP")):
            return super().execute(sql, parameters)
        self.life -= 1
        if self.life >= 0:
            return super().execute(sql, parameters)
        if self._is_done:
            super().execute(sql, parameters)
        raise Killed


@pytest.mark.parametrize("is_done", [False, True], ids=["before it", "after it"])
def test_a_migration_that_is_killed_at_any_statement_is_finished_by_the_next(
    url: str, session: Session, is_done: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("celery_mysqllock.jobs.online._PART", 2)
    for life in range(100):
        table = f"jobs_{life}"
        session.execute(f"CREATE TABLE {table} {SHAPES['a short message']}")
        insert = f"INSERT INTO {table} (message) VALUES (%s)"  # noqa: S608 - our own name
        for message in "123":
            session.execute(insert, (message,))
        with Mortal(Address.parse(url), life, is_done=is_done) as mortal, suppress(Killed):
            Migrations(mortal, table).apply()
        session.execute(insert, ("4",))
        Migrations(session, table).apply()
        Migrations(session, table).check()
        session.execute(insert, ("5",))
        claimed = JobTable(session, table).claims.claim("celery", 9, ME)
        assert [job.message for job in claimed] == list("12345"), life
        if mortal.life >= 0:
            break
    assert life > 10


@pytest.fixture
def inserting(url: str, session: Session) -> Iterator[Callable[[], list[str]]]:
    """A program that INSERTs all the time; the call stops it and gives the messages."""
    session.execute(f"CREATE TABLE jobs {SHAPES['a short message']}")
    stop, sent, begun = threading.Event(), list[str](), threading.Event()

    def insert() -> None:
        with Session(Address.parse(url)) as other:
            while not stop.is_set():
                other.execute("INSERT INTO jobs (message) VALUES (%s)", (str(len(sent)),))
                sent.append(str(len(sent)))
                begun.set()

    thread = threading.Thread(target=insert)
    thread.start()
    assert begun.wait(30)

    def end() -> list[str]:
        stop.set()
        thread.join()
        return sent

    yield end
    end()


def test_no_message_is_lost_that_is_inserted_meanwhile(
    session: Session, inserting: Callable[[], list[str]]
) -> None:
    session.execute("INSERT INTO jobs (message) SELECT 'old' FROM information_schema.columns")
    Migrations(session).apply()
    before = session.value("SELECT COUNT(*) FROM jobs")
    sent = inserting()
    found = session.query("SELECT message FROM jobs WHERE message <> 'old' ORDER BY id")
    assert [row[0] for row in found] == sent
    assert before
    assert session.query("SELECT id FROM jobs WHERE message IS NULL") == []


def test_a_message_with_an_id_below_one_is_kept(session: Session) -> None:
    session.execute(f"CREATE TABLE jobs {SHAPES['a short message']}")
    session.execute("INSERT INTO jobs (id, message) VALUES (-5, 'below'), (7, 'above')")
    Migrations(session).apply()
    assert session.query("SELECT id, message FROM jobs ORDER BY id") == [
        (-5, "below"),
        (7, "above"),
    ]


def test_a_server_without_such_defaults_copies_the_table_and_says_so(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Server, "has_expression_defaults", False)
    session.execute(f"CREATE TABLE jobs {SHAPES['a short message']}")
    session.execute("INSERT INTO jobs (message) VALUES ('old')")
    (adoption,) = (step for step in Migrations(session).pending() if step.name == "adoption")
    assert "INSERTs wait" in adoption.notice
    assert "MODIFY message LONGTEXT" in adoption.sql
    Migrations(session).apply()
    assert JobTable(session).claims.claim("celery", 1, ME)[0].message == "old"


def test_without_the_right_to_make_the_procedure_nothing_is_changed(
    session: Session, url: str
) -> None:
    address = Address.parse(url)
    user = f"maker_{address.database[-8:]}"
    session.execute(f"CREATE TABLE jobs {SHAPES['a short message']}")
    before = session.query("SHOW CREATE TABLE jobs")
    session.execute(f"CREATE USER {user} IDENTIFIED BY 'a password'")
    try:
        session.execute(
            "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX, DROP, CREATE VIEW, "
            f"SHOW VIEW ON {address.database}.* TO {user}"
        )
        own = Address(address.host, address.database, user, "a password", address.port)
        with Session(own) as limited:
            with pytest.raises(MissingPrivilege, match=r"CREATE ROUTINE.*--no-procedure"):
                Migrations(limited).apply()
            assert session.query("SHOW CREATE TABLE jobs") == before
            Migrations(limited, with_procedure=False).apply()
            Migrations(limited).check()
    finally:
        session.execute(f"DROP USER {user}")


def test_a_migration_whose_session_ends_says_so(url: str, session: Session) -> None:
    with Session(Address.parse(url)) as other:
        migrations = Migrations(other)
        session.execute("KILL %s", (other.connection_id,))
        with pytest.raises(ConnectionLost):
            migrations.apply()
