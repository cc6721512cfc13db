"""What a server's greeting says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.mysql import Server

if TYPE_CHECKING:
    from celery_mysqllock.mysql import Session


@pytest.mark.parametrize(
    ("greeting", "server"),
    [
        ("9.7.4", Server("MySQL", (9, 7, 4))),
        ("8.0.43-0ubuntu0.24.04.1", Server("MySQL", (8, 0, 43))),
        ("5.7.44-log", Server("MySQL", (5, 7, 44))),
        ("5.5.5-10.11.19-MariaDB-log", Server("MariaDB", (10, 11, 19))),
        ("11.8.3-MariaDB-ubu2404", Server("MariaDB", (11, 8, 3))),
        ("8.4", Server("MySQL", (8, 4, 0))),
        ("something else", Server("MySQL", (0, 0, 0))),
    ],
)
def test_kind_and_version(greeting: str, server: Server) -> None:
    assert Server.from_greeting(greeting) == server


@pytest.mark.parametrize(
    ("greeting", "can"),
    [("8.0.1", True), ("5.7.44", False), ("10.6.0-MariaDB", True), ("10.5.29-MariaDB", False)],
)
def test_skip_locked(greeting: str, can: bool) -> None:
    assert Server.from_greeting(greeting).has_skip_locked is can


@pytest.mark.parametrize(
    ("greeting", "old"),
    [("5.6.51", True), ("5.7.0", False), ("10.3.39-MariaDB", True), ("10.4.0-MariaDB", False)],
)
def test_too_old(greeting: str, old: bool) -> None:
    assert Server.from_greeting(greeting).is_too_old is old


def test_a_session_knows_its_server(session: Session) -> None:
    version = session.value("SELECT VERSION()")
    assert session.server.is_mariadb == ("MariaDB" in version)
    assert str(session.server).split()[1] in version
    assert not session.server.is_too_old
