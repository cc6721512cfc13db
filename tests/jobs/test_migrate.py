"""The table is made and changed on purpose only."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.exceptions import DatabaseError, MissingPrivilege, TableMismatch, TableMissing
from celery_mysqllock.jobs import JobTable, LockNames, Migrations, NewJob
from celery_mysqllock.jobs.schema import NEWEST, OLDEST
from celery_mysqllock.mysql import Address, Session, get_lock, release_lock
from tests.jobs.schemas import make_schema_8
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_mysqllock.jobs.online import Step
    from devserver import DevServer

ORIGINAL = """CREATE TABLE jobs (
    id INT AUTO_INCREMENT PRIMARY KEY, message VARCHAR(255), job_status INT DEFAULT 0)"""


def names(steps: list[Step]) -> list[str]:
    return [step.name for step in steps]


def test_an_empty_database_gets_the_table(session: Session) -> None:
    migrations = Migrations(session)
    with pytest.raises(TableMissing, match="mysqllock migrate"):
        migrations.check()
    assert names(migrations.apply()) == ["procedure", "create"]
    migrations.check()
    assert migrations.apply() == []


def test_the_original_table_is_taken_over_with_its_rows(session: Session) -> None:
    session.execute(ORIGINAL)
    session.execute("INSERT INTO jobs (message) VALUES ('old'), ('older')")
    migrations = Migrations(session)
    with pytest.raises(TableMismatch, match="version 1"):
        migrations.check()
    assert names(migrations.apply()) == ["procedure", "adoption", "upgrade"]
    claimed = JobTable(session).claims.claim("celery", 5, "a" * 32)
    assert [job.message for job in claimed] == ["old", "older"]


def test_a_table_of_the_release_before_works_and_can_be_upgraded(session: Session) -> None:
    make_schema_8(session)
    session.execute("INSERT INTO jobs (message) VALUES ('old')")
    migrations = Migrations(session)
    migrations.check()
    assert migrations.version() == OLDEST
    assert names(migrations.apply()) == ["upgrade"]
    assert migrations.version() == NEWEST
    assert migrations.apply() == []
    assert [job.message for job in JobTable(session).claims.claim("celery", 5, "a" * 32)] == ["old"]


def test_an_upgrade_keeps_the_namespace_that_the_table_remembers(session: Session) -> None:
    make_schema_8(session, namespace="shop")
    Migrations(session).apply()
    Migrations(session, namespace="shop").check()
    with pytest.raises(TableMismatch, match="namespace 'shop'"):
        Migrations(session, namespace="else").check()


def test_a_table_that_was_never_finished_is_finished_by_the_release_that_began_it(
    session: Session,
) -> None:
    make_schema_8(session)
    session.execute("ALTER TABLE jobs COMMENT = 'celery-mysqllock schema 5'")
    for use in (Migrations(session).check, Migrations(session).apply):
        with pytest.raises(TableMismatch, match=r"version 5\.0 .*finish its 'mysqllock migrate'"):
            use()


def test_a_newer_revision_is_used_and_left_alone(session: Session) -> None:
    Migrations(session).apply()
    session.execute("ALTER TABLE jobs COMMENT = 'celery-mysqllock schema 8 revision=99'")
    session.execute("DROP PROCEDURE mysqllock_publish")
    Migrations(session).check()
    assert Migrations(session).apply() == []
    assert Migrations(session).version() == (8, 99)


def test_a_dry_run_names_the_columns_that_would_be_added(session: Session) -> None:
    make_schema_8(session)
    session.execute("ALTER TABLE jobs DROP COLUMN recoveries, DROP KEY finished")
    session.execute("ALTER TABLE jobs_queues DROP COLUMN paused_at")
    session.execute("DROP TABLE jobs_exchanges")
    (step,) = Migrations(session).pending()
    assert "ADD recoveries INT UNSIGNED NOT NULL DEFAULT 0" in step.sql
    assert "ADD KEY finished (finished_at)" in step.sql
    assert "ADD paused_at TIMESTAMP(6) NULL" in step.sql
    assert "ADD owner" not in step.sql
    assert "CREATE TABLE IF NOT EXISTS `jobs_exchanges`" in step.sql
    assert "`jobs_ticks`" not in step.sql


def test_a_table_of_another_shape_is_left_alone(session: Session) -> None:
    session.execute("CREATE TABLE jobs (id INT PRIMARY KEY, title VARCHAR(50), job_status INT)")
    before = session.query("SHOW CREATE TABLE jobs")
    with pytest.raises(TableMismatch, match=r"message is missing; title is not ours"):
        Migrations(session).apply()
    assert session.query("SHOW CREATE TABLE jobs") == before


def test_a_table_of_a_newer_release_is_left_alone(session: Session) -> None:
    Migrations(session).apply()
    session.execute("ALTER TABLE jobs COMMENT = 'celery-mysqllock schema 99'")
    assert Migrations(session).apply() == []
    with pytest.raises(TableMismatch, match="Update celery-mysqllock"):
        Migrations(session).check()


def test_two_that_migrate_at_once_do_it_once(url: str) -> None:
    done: list[list[Step]] = []

    def migrate() -> None:
        with Session(Address.parse(url)) as session:
            done.append(Migrations(session).apply())

    threads = [threading.Thread(target=migrate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(bool, done)) == [False, False, False, True]


def test_a_check_waits_for_the_process_that_makes_the_table(session: Session, url: str) -> None:
    begun = session.execute(f"{ORIGINAL} COMMENT = 'celery-mysqllock schema 1'")
    assert begun == 0
    name = LockNames.of(session, "jobs").migrate
    assert get_lock(session, name, 0)
    errors: list[Exception] = []

    def check() -> None:
        with Session(Address.parse(url)) as other:
            try:
                Migrations(other).check()
            except DatabaseError as error:
                errors.append(error)

    thread = threading.Thread(target=check)
    thread.start()
    waiting = (
        "SELECT COUNT(*) FROM information_schema.processlist"
        " WHERE db = DATABASE() AND info LIKE '%GET_LOCK%' AND id <> CONNECTION_ID()"
    )
    eventually(lambda: session.value(waiting), 30, "it waits")
    Migrations(session).apply()
    release_lock(session, name)
    thread.join()
    assert errors == []


def test_a_user_who_may_not_create_is_told_so(session: Session, url: str) -> None:
    address = Address.parse(url)
    user = f"reader_{address.database[-8:]}"
    session.execute(f"CREATE USER {user} IDENTIFIED BY 'a password'")
    try:
        session.execute(f"GRANT SELECT ON {address.database}.* TO {user}")
        reader = Address(address.host, address.database, user, "a password", address.port)
        with Session(reader) as reading, pytest.raises(MissingPrivilege, match="GRANT") as caught:
            Migrations(reading).apply()
    finally:
        session.execute(f"DROP USER {user}")
    assert "a password" not in str(caught.value)


def test_a_procedure_of_an_administrator_says_who_can_replace_it(
    session: Session, url: str
) -> None:
    address = Address.parse(url)
    if session.server.kind == "MariaDB":
        pytest.skip("MariaDB lets whoever has ALTER ROUTINE replace it")
    if session.server.version < (8, 0, 16):
        pytest.skip("MySQL has SYSTEM_USER since 8.0.16")
    Migrations(session).apply()
    session.execute("ALTER PROCEDURE mysqllock_publish COMMENT 'of an older release'")
    user = f"maker_{address.database[-8:]}"
    session.execute(f"CREATE USER {user} IDENTIFIED BY 'a password'")
    try:
        session.execute(f"GRANT ALL ON {address.database}.* TO {user}")
        own = Address(address.host, address.database, user, "a password", address.port)
        with Session(own) as limited, pytest.raises(MissingPrivilege) as caught:
            Migrations(limited).apply()
        assert "An administrator with SYSTEM_USER has made" in str(caught.value)
        assert "GRANT CREATE ROUTINE" not in str(caught.value)
        session.execute("DROP PROCEDURE mysqllock_publish")
        with Session(own) as limited:
            Migrations(limited).apply()
            Migrations(limited).check()
    finally:
        session.execute(f"DROP USER {user}")


def test_a_server_that_makes_tables_of_short_keys_is_no_obstacle(
    start_server: Callable[..., DevServer],
) -> None:
    server = start_server("--innodb-default-row-format=compact")
    with Session(Address.parse(server.create_database())) as session:
        Migrations(session).apply()
        Migrations(session).check()
        formats = (
            "SELECT DISTINCT row_format FROM information_schema.tables"
            " WHERE table_schema = DATABASE() AND table_type = 'BASE TABLE'"
        )
        assert session.query(formats) == [("Dynamic",)]
        assert JobTable(session).publisher.put(NewJob("q" * 255, "x"))
