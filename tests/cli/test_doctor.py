"""``mysqllock doctor`` as a user runs it: on servers that will do, and on such as will not."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from itertools import cycle
from typing import TYPE_CHECKING, Any, cast

import pytest

from celery_mysqllock.cli.checks.check import Level, Target
from celery_mysqllock.cli.checks.connection import check_proxy
from celery_mysqllock.cli.checks.locks import check_cluster
from celery_mysqllock.cli.checks.privileges import granted_on
from celery_mysqllock.jobs import Migrations
from celery_mysqllock.mysql import Address, Session
from devserver.network import Network
from devserver.program import MARIADB
from tests.cli.test_deployment import PROGRAM, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from devserver import DevServer
    from devserver.program import Program


def doctor(url: str, *words: str) -> tuple[int, dict[str, list[dict[str, str]]]]:
    """The exit code, and the findings by their subject."""
    done = run(*words, "doctor", "--json", MYSQLLOCK_URL=url)
    assert done.stderr == ""
    found: dict[str, list[dict[str, str]]] = {}
    for server in json.loads(done.stdout)["servers"]:
        for finding in server["findings"]:
            found.setdefault(finding["subject"], []).append(finding)
    return done.returncode, found


def wrong(findings: dict[str, list[dict[str, str]]]) -> dict[str, str]:
    """What is no ok, by subject."""
    return {
        subject: finding["level"]
        for subject, several in findings.items()
        for finding in several
        if finding["level"] != "ok"
    }


@pytest.fixture
def warned(url: str) -> dict[str, str]:
    """What the doctor warns of on every server of this release."""
    with Session(Address.parse(url)) as session:
        return {} if session.server.has_skip_locked else {"server": "warning"}


@pytest.fixture
def migrated(url: str) -> str:
    with Session(Address.parse(url)) as session:
        Migrations(session).apply()
    return url


# -- servers that will do --------------------------------------------------------------------------


def test_nothing_is_wrong_with_a_server_as_it_comes(migrated: str, warned: dict[str, str]) -> None:
    code, found = doctor(migrated)
    assert (code, wrong(found)) == (0, warned)
    for subject in ("server", "locks", "waking", "privileges", "job table", "size", "durability"):
        assert found[subject]


def test_it_is_said_in_words_too(migrated: str, warned: dict[str, str]) -> None:
    done = run("doctor", MYSQLLOCK_URL=migrated)
    assert (done.returncode, done.stderr) == (0, "")
    assert "jobs, version " in done.stdout
    warnings = "1 warning" if warned else "no warnings"
    assert done.stdout.endswith(f"no problems, {warnings}.\n")
    assert Address.parse(migrated).password not in done.stdout


def test_it_leaves_no_session_and_changes_nothing(url: str) -> None:
    doctor(url)
    with Session(Address.parse(url)) as session:
        assert session.query("SHOW TABLES") == []
        count = "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE()"
        assert session.value(count) == 1


def test_an_apps_locks_may_be_on_a_server_without_a_job_table(url: str, tmp_path: Path) -> None:
    (tmp_path / "locked.py").write_text(
        "from celery import Celery\n"
        "app = Celery('locked', broker='redis://127.0.0.1:1/0')\n"
        f"app.conf.mysqllock_url = {url!r}\n"
    )
    done = subprocess.run(
        [PROGRAM, "-A", "locked", "doctor", "--json"],
        env={**os.environ, "PYTHONPATH": str(tmp_path), "MYSQLLOCK_URL": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    (server,) = json.loads(done.stdout)["servers"]
    subjects = {finding["subject"] for finding in server["findings"]}
    assert "locks" in subjects
    assert "job table" not in subjects


# -- servers that will not -------------------------------------------------------------------------


def test_a_missing_table_is_a_problem_that_says_what_to_do(
    url: str, warned: dict[str, str]
) -> None:
    code, found = doctor(url)
    assert (code, wrong(found)) == (1, {**warned, "job table": "problem"})
    assert "mysqllock migrate" in found["job table"][0]["text"]


def test_a_table_that_is_none_of_ours_is_a_problem(url: str) -> None:
    with Session(Address.parse(url)) as session:
        session.execute("CREATE TABLE jobs (id INT PRIMARY KEY, title TEXT) ENGINE = MyISAM")
    code, found = doctor(url)
    assert code == 1
    assert wrong(found).keys() >= {"job table", "engine"}


def test_a_server_that_is_down_is_a_problem() -> None:
    code, found = doctor("mysql://jane:secret@127.0.0.1:1/shop")
    assert (code, list(found)) == (1, ["connection"])
    assert "cannot be reached" in found["connection"][0]["text"]
    assert "secret" not in str(found)


@pytest.mark.parametrize(
    ("part", "said"), [("password", "refused the login"), ("database", "does not exist")]
)
def test_a_wrong_login_or_database_is_a_problem(url: str, part: str, said: str) -> None:
    wrong_url = replace(Address.parse(url), **{part: "no-such-thing"}).url()  # type: ignore[arg-type]
    code, found = doctor(wrong_url)
    assert (code, list(found)) == (1, ["connection"])
    assert said in found["connection"][0]["text"]
    assert Address.parse(url).password not in str(found)


@pytest.fixture
def login(migrated: str) -> Iterator[Callable[[str], str]]:
    """Makes a user with these privileges on the test's database; gives its URL."""
    address = replace(Address.parse(migrated), user="clerk", password="clerk")  # noqa: S106

    def grant(privileges: str) -> str:
        session.execute("CREATE USER clerk@'%%' IDENTIFIED BY 'clerk'", ())
        session.execute(f"GRANT {privileges} ON `{address.database}`.* TO clerk@'%'")
        return address.url()

    with Session(Address.parse(migrated)) as session:
        yield grant
        session.execute("DROP USER clerk@'%%'", ())


def test_what_a_user_may_not_do_is_said_with_the_grant(
    login: Callable[[str], str], warned: dict[str, str]
) -> None:
    code, found = doctor(login("SELECT"))
    assert (code, wrong(found)) == (1, {**warned, "privileges": "problem"})
    assert found["privileges"][0]["advice"].startswith("GRANT INSERT, UPDATE, DELETE ON ")


def test_a_worker_need_not_have_what_migrate_needs(
    login: Callable[[str], str], warned: dict[str, str]
) -> None:
    code, found = doctor(login("SELECT, INSERT, UPDATE, DELETE"))
    assert (code, wrong(found)) == (0, warned)
    assert "may not CREATE, ALTER" in found["migrate"][0]["text"]


def test_unsafe_and_tight_options_are_warned_of(
    start_server: Callable[..., DevServer], program: Program, warned: dict[str, str]
) -> None:
    limit = "max-statement-time=5" if program.kind == MARIADB else "max-execution-time=5000"
    server = start_server(
        *("--log-bin", "--server-id=1", "--sync-binlog=0"),
        *("--innodb-flush-log-at-trx-commit=2", "--max-allowed-packet=1M", "--wait-timeout=20"),
        *("--net-read-timeout=5", f"--{limit}", "--max-user-connections=12"),
    )
    code, found = doctor(server.url)
    assert code == 1
    assert wrong(found) == {
        **warned,
        "time-outs": "warning",
        "connections": "warning",
        "packet": "warning",
        "durability": "warning",
        "job table": "problem",
    }
    # Sessions set these for themselves.
    limited, _, _ = limit.replace("-", "_").partition("=")
    assert limited in found["session"][0]["text"]
    assert "wait_timeout" not in found["time-outs"][0]["text"]
    assert len([one for one in found["durability"] if one["level"] == "warning"]) == 2
    assert all(one["advice"] for one in found["packet"] + found["durability"])


def test_a_binary_log_that_refuses_every_write_is_a_problem(
    start_server: Callable[..., DevServer],
) -> None:
    server = start_server("--log-bin", "--server-id=1", "--binlog-format=STATEMENT")
    assert wrong(doctor(server.url)[1])["isolation"] == "problem"


def test_what_surprises_a_program_that_inserts_jobs_is_warned_of(
    start_server: Callable[..., DevServer],
) -> None:
    server = start_server("--autocommit=0", "--completion-type=CHAIN", "--sql-mode=")
    code, found = doctor(server.url)
    assert (code, wrong(found)["defaults"]) == (1, "warning")
    texts = [one["text"] for one in found["defaults"]]
    for setting in ("autocommit=OFF", "completion_type=CHAIN", "sql_mode"):
        assert any(setting in text for text in texts)
    assert found["session"][0]["level"] == "ok"


def test_a_read_only_server_is_a_problem(start_server: Callable[..., DevServer]) -> None:
    server = start_server()
    with Session(Address.parse(server.url)) as session:
        session.execute("SET GLOBAL read_only = ON")
        try:
            assert wrong(doctor(server.url)[1])["writes"] == "problem"
        finally:
            session.execute("SET GLOBAL read_only = OFF")


def test_a_full_server_is_a_problem(start_server: Callable[..., DevServer]) -> None:
    server = start_server("--max-connections=10")
    sessions = [Session(Address.parse(server.url)).open() for _ in range(7)]
    try:
        assert wrong(doctor(server.url)[1])["connections"] == "problem"
    finally:
        for session in sessions:
            session.close()


class _Balancer(Network):
    """Sends every other connection to another server."""

    def __init__(self, url: str, *others: str) -> None:
        super().__init__(url)
        addresses = [Address.parse(each) for each in (url, *others)]
        self._turns = cycle([(address.host, address.port) for address in addresses])

    def _connect(self) -> None:
        self._server = next(self._turns)
        super()._connect()


def test_two_servers_behind_one_address_are_a_problem(
    start_server: Callable[..., DevServer],
) -> None:
    urls = [start_server(f"--max-connections={number}").url for number in (101, 102)]
    for url in urls:
        with Session(Address.parse(url)) as session:
            session.execute("CREATE USER balanced@'%%' IDENTIFIED BY 'balanced'", ())
            session.execute("GRANT ALL ON mysqllock.* TO balanced@'%%'", ())
    logins = [
        replace(Address.parse(url), user="balanced", password="balanced").url()  # noqa: S106
        for url in urls
    ]
    with _Balancer(*logins) as network:
        code, found = doctor(network.url)
    assert code == 1
    assert "on different servers" in found["locks"][0]["text"]


# -- what no server here can be made to be ---------------------------------------------------------


class _Session:
    """A session with a server that answers so; no such server can be had in a test."""

    address = "mysql://jane@db/shop"
    connection_id = 7

    def __init__(self, *rows: Any) -> None:
        self._rows = iter(rows)

    def query(self, *_: object) -> Any:
        return next(self._rows)

    value = query


def examined(session: _Session, *, allow: bool = False, **variables: str) -> Target:
    return Target(
        cast("Session", session),
        "jobs",
        creates_table=False,
        allow_multi_primary=allow,
        variables=variables,
        status={},
    )


def test_a_proxy_that_spreads_statements_is_a_problem() -> None:
    (finding,) = check_proxy(examined(_Session(7, 8, 7, 9, 7), version="8.0.36"))
    assert finding.level is Level.PROBLEM
    assert "session 7, statements run in 7, 8, 9" in finding.text


def test_a_proxy_that_says_its_name_is_a_problem() -> None:
    (finding,) = check_proxy(examined(_Session(*[7] * 5), version="8.0.36 (ProxySQL)"))
    assert finding.level is Level.PROBLEM


@pytest.mark.parametrize(("allow", "level"), [(False, Level.PROBLEM), (True, Level.WARNING)])
def test_one_of_several_primaries_is_a_problem_unless_allowed(allow: bool, level: Level) -> None:
    session = _Session([("wsrep_on", "ON"), ("wsrep_provider", "/usr/lib/libgalera_smm.so")])
    (finding,) = check_cluster(examined(session, allow=allow))
    assert finding.level is level
    assert "Galera" in finding.text


@pytest.mark.parametrize(
    ("grant", "database", "granted"),
    [
        ("GRANT SELECT, CREATE VIEW ON *.* TO `a`@`%`", "shop", {"SELECT", "CREATE VIEW"}),
        ("GRANT SELECT ON `shop`.* TO `a`@`%`", "shop", {"SELECT"}),
        ("GRANT SELECT ON `shop`.* TO `a`@`%`", "shop2", set()),
        ("GRANT SELECT ON `sh%`.* TO `a`@`%`", "shop", {"SELECT"}),
        (r"GRANT SELECT ON `my\_shop`.* TO `a`@`%`", "my_shop", {"SELECT"}),
        (r"GRANT SELECT ON `my\_shop`.* TO `a`@`%`", "myxshop", set()),
        ("GRANT SELECT ON `my_shop`.* TO `a`@`%`", "myxshop", {"SELECT"}),
        ("GRANT SELECT ON `shop`.`jobs` TO `a`@`%`", "shop", set()),
        ("GRANT `boss`@`%` TO `a`@`%`", "shop", set()),
    ],
)
def test_a_grant_is_understood(grant: str, database: str, granted: set[str]) -> None:
    session = cast("Session", _Session([(grant,)], "NONE"))
    assert granted_on(session, database) == granted


@pytest.mark.parametrize(
    ("used", "level"), [(1, "ok"), (1.2e9, "warning"), (2147483647, "problem")]
)
def test_ids_that_run_out_are_warned_of(url: str, used: float, level: str) -> None:
    with Session(Address.parse(url)) as session:
        session.execute(
            "CREATE TABLE jobs (id INT AUTO_INCREMENT PRIMARY KEY, message TEXT, job_status INT)"
        )
        Migrations(session).apply()
        session.execute(f"ALTER TABLE jobs AUTO_INCREMENT = {int(used)}")
    (found,) = doctor(url)[1]["ids"]
    assert found["level"] == level
    assert "AUTO_INCREMENT is at" in found["text"]
