"""``celery -A app mysqllock migrate`` as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from celery_mysqllock.mysql import Address, Session

if TYPE_CHECKING:
    from devserver import DevServer, GivenServer

STEPS = ["procedure", "create"]


def migrate(url: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "celery", "-A", "tests.broker.app", "mysqllock", "migrate"]
    return subprocess.run(
        [*command, *options],
        env={**os.environ, "BROKER_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )


def tables(url: str) -> list[str]:
    with Session(Address.parse(url)) as session:
        return [row[0] for row in session.query("SHOW TABLES")]


def test_the_table_is_made_once(url: str) -> None:
    first, second = migrate(url), migrate(url)
    assert (first.returncode, first.stdout) == (
        0,
        "".join(f"jobs: {step}\n" for step in STEPS),
    )
    assert (second.returncode, second.stdout) == (0, "jobs is up to date.\n")
    assert "jobs" in tables(url)


def test_the_table_is_made_on_each_server_of_a_list(
    url: str, server: DevServer | GivenServer
) -> None:
    other = server.create_database()
    done = migrate(f"{url};{other}")
    assert done.stdout.count("jobs: create") == 2
    assert "jobs" in tables(other)
    server.drop_database(Address.parse(other).database)


def test_a_dry_run_prints_the_sql_and_changes_nothing(url: str) -> None:
    done = migrate(url, "--dry-run")
    assert "CREATE TABLE IF NOT EXISTS `jobs`" in done.stdout
    assert "ALTER TABLE `jobs`" in done.stdout
    assert tables(url) == []


def test_json_is_for_programs(url: str) -> None:
    report = json.loads(migrate(url, "--json").stdout)
    assert report == {
        "table": "jobs",
        "dry_run": False,
        "migrations": STEPS,
    }


def test_a_table_of_another_shape_is_an_error_with_an_exit_code(url: str) -> None:
    with Session(Address.parse(url)) as session:
        session.execute("CREATE TABLE jobs (id INT PRIMARY KEY, title TEXT)")
    done = migrate(url)
    assert done.returncode == 1
    assert "Error: " in done.stderr
    assert "message is missing" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_broker_that_is_not_mysql_is_an_error_that_says_what_to_set(url: str) -> None:
    del url
    done = migrate("redis://localhost/0")
    assert done.returncode == 1
    assert "mysql://user:password@host:3306/database" in done.stderr


def test_a_password_is_never_printed(url: str) -> None:
    wrong = url.replace(Address.parse(url).password, "not-the-password")
    done = migrate(wrong)
    assert done.returncode == 1
    assert "refused the login" in done.stderr
    assert "not-the-password" not in done.stdout + done.stderr


def test_a_dry_run_shows_how_an_existing_table_is_taken_over(url: str) -> None:
    with Session(Address.parse(url)) as session:
        session.execute(
            "CREATE TABLE jobs (id INT AUTO_INCREMENT PRIMARY KEY, message VARCHAR(99),"
            " job_status INT DEFAULT 0)"
        )
        before = session.query("SHOW CREATE TABLE jobs")
        shown = migrate(url, "--dry-run").stdout
        copies = not session.server.has_expression_defaults
        if copies:
            assert "MODIFY message LONGTEXT" in shown
        else:
            assert "ADD message_wide LONGTEXT" in shown
            assert "UPDATE `jobs` SET message_wide = message" in shown
        assert session.query("SHOW CREATE TABLE jobs") == before
        done = migrate(url)
        assert done.stdout == "jobs: procedure\njobs: adoption\njobs: upgrade\n"
        assert done.returncode == 0
        assert ("INSERTs wait" in done.stderr) if copies else (done.stderr == "")


def test_the_procedure_can_be_done_without(url: str) -> None:
    migrate(url, "--no-procedure")
    assert migrate(url, "--no-procedure").stdout == "jobs is up to date.\n"
    with Session(Address.parse(url)) as session:
        assert session.query("SHOW PROCEDURE STATUS WHERE db = DATABASE()") == []
    assert migrate(url).stdout == "jobs: procedure\n"


def test_the_ids_of_an_adopted_table_are_widened_when_the_user_says_so(url: str) -> None:
    with Session(Address.parse(url)) as session:
        session.execute(
            "CREATE TABLE jobs (id INT AUTO_INCREMENT PRIMARY KEY, message TEXT, job_status INT)"
        )
        session.execute("INSERT INTO jobs (message, job_status) VALUES ('kept', 0)")
        migrate(url)
        kind = (
            "SELECT data_type FROM information_schema.columns WHERE column_name = 'id'"
            " AND table_schema = DATABASE() AND table_name = 'jobs'"
        )
        assert session.value(kind) == "int"
        shown = migrate(url, "--wide-ids", "--dry-run")
        assert "a second table with BIGINT ids" in shown.stdout
        assert session.value(kind) == "int"
        assert migrate(url, "--wide-ids").stdout == "jobs: wide_ids\n"
        assert session.value(kind) == "bigint"
        assert session.query("SELECT id, message FROM jobs") == [(1, "kept")]
    assert migrate(url, "--wide-ids").stdout == "jobs is up to date.\n"
