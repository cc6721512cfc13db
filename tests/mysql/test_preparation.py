"""A session means the same on a server whose administrators have set other defaults."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.mysql import Address, Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from devserver import DevServer

#: A variable, what an administrator has set it to, and what a session of ours has.
EVERYWHERE = [
    ("autocommit", "0", 1),
    ("completion_type", "'CHAIN'", "NO_CHAIN"),
    ("innodb_lock_wait_timeout", "600", 3),
    ("lock_wait_timeout", "6000", 5),
    ("sql_auto_is_null", "1", 0),
    ("sql_big_selects", "0", 1),
    (
        "sql_mode",
        "'ANSI_QUOTES,PAD_CHAR_TO_FULL_LENGTH'",
        "STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION",
    ),
    ("sql_mode", "'NO_BACKSLASH_ESCAPES'", "STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION"),
    ("sql_safe_updates", "1", 0),
    ("sql_select_limit", "1", 2**64 - 1),
    ("time_zone", "'+05:00'", "+00:00"),
    ("unique_checks", "0", 1),
    ("wait_timeout", "20", 28800),
    ("character_set_client", "latin1", "utf8mb4"),
    ("character_set_results", "latin1", "utf8mb4"),
]
MARIADB = [
    ("max_statement_time", "5", 0.0),
    ("sql_mode", "'ORACLE'", "STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION"),
    ("tx_isolation", "'SERIALIZABLE'", "READ-COMMITTED"),
    ("tx_read_only", "1", 0),
]
MYSQL = [
    ("max_execution_time", "5000", 0),
    ("transaction_isolation", "'SERIALIZABLE'", "READ-COMMITTED"),
    ("transaction_read_only", "1", 0),
    ("range_optimizer_max_mem_size", "1", 0),
]


@pytest.fixture(scope="module")
def own(start_server: Callable[..., DevServer]) -> DevServer:
    return start_server()


@pytest.fixture
def server(own: DevServer) -> DevServer:
    """What these tests set holds for all users of a server, so it is theirs alone."""
    return own


@pytest.fixture
def user(url: str) -> Iterator[Address]:
    """An ordinary user: ``init_connect`` does not run for those with all privileges."""
    address = Address.parse(url)
    with Session(address) as session:
        session.execute("CREATE USER ordinary@'%' IDENTIFIED BY 'secret'")
        session.execute(f"GRANT ALL ON `{address.database}`.* TO ordinary@'%'")
        yield replace(address, user="ordinary", password="secret")  # noqa: S106 - a throw-away user
        session.execute("SET GLOBAL init_connect = ''")
        session.execute("DROP USER ordinary@'%'")


def check(user: Address, url: str, variable: str, hostile: str, ours: object) -> None:
    with Session(Address.parse(url)) as session:
        session.execute("SET GLOBAL init_connect = %s", (f"SET SESSION {variable} = {hostile}",))
    with Session(user) as session:
        assert session.value(f"SELECT @@SESSION.{variable}") == ours


@pytest.mark.parametrize(("variable", "hostile", "ours"), EVERYWHERE)
def test_what_every_server_has(
    user: Address, url: str, variable: str, hostile: str, ours: object
) -> None:
    check(user, url, variable, hostile, ours)


@pytest.mark.parametrize(("variable", "hostile", "ours"), [*MARIADB, *MYSQL])
def test_what_one_kind_of_server_has(  # noqa: PLR0913, PLR0917 - fixtures and parameters
    own: DevServer, user: Address, url: str, variable: str, hostile: str, ours: object
) -> None:
    if own.kind != ("mariadb" if (variable, hostile, ours) in MARIADB else "mysql"):
        pytest.skip(f"{own.kind} has no such variable")
    check(user, url, variable, hostile, ours)


def test_mariadb_s_snapshot_isolation_is_off(own: DevServer, user: Address, url: str) -> None:
    with Session(Address.parse(url)) as session:
        if session.query("SHOW VARIABLES LIKE 'innodb_snapshot_isolation'"):
            check(user, url, "innodb_snapshot_isolation", "ON", 0)
        else:
            assert own.kind == "mysql" or session.server.version < (10, 6, 18)


def test_a_limit_that_a_user_has_does_not_end_a_sleep(
    own: DevServer, user: Address, url: str
) -> None:
    if own.kind != "mariadb":
        pytest.skip("only MariaDB's users have a limit on statements")
    with Session(Address.parse(url)) as session:
        session.execute("ALTER USER ordinary@'%' WITH MAX_STATEMENT_TIME 0.1")
    with Session(user) as session:
        assert session.value("SELECT SLEEP(0.3)") == 0


def test_a_variable_that_the_server_does_not_know_leaves_the_others_set(
    user: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    from celery_mysqllock.mysql import preparation  # noqa: PLC0415 - to be changed

    unknown = {"no_such_variable": "1", **preparation._EVERYWHERE}  # noqa: SLF001 - as an old server
    monkeypatch.setattr(preparation, "_EVERYWHERE", unknown)
    with Session(user, idle_timeout=77) as session:
        assert session.query("SELECT @@sql_safe_updates, @@lock_wait_timeout, @@wait_timeout") == [
            (0, 5, 77)
        ]
