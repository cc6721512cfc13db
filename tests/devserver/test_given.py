"""A server that MYSQLLOCK_URL names: used as is, never touched."""

from __future__ import annotations

import pytest

from celery_mysqllock.exceptions import (
    CannotConnect,
    DatabaseError,
    SettingsError,
    UnknownDatabase,
)
from devserver import (
    DevServer,
    GivenServer,
    NotOurServer,
    private_server,
)
from devserver import server as server_module
from tests.devserver.conftest import answers


def test_a_given_server_is_never_stopped_or_killed(
    own: DevServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MYSQLLOCK_URL", own.url)
    monkeypatch.delenv("MYSQLLOCK_SERVER", raising=False)
    with private_server() as given:
        assert given.url == own.url
        assert given.kind == own.kind
        assert not given.private
        for fault in (given.start, given.stop, given.restart, given.kill):
            with pytest.raises(NotOurServer):
                fault()
        made = given.create_database("made_here")
        assert answers(made)
        with pytest.raises(DatabaseError):
            given.create_database("made_here")
        with pytest.raises(NotOurServer, match="'mysql' was not made here"):
            given.drop_database("mysql")
    assert answers(own.url)
    with pytest.raises(UnknownDatabase):
        answers(made)


def test_a_given_server_of_another_kind_than_asked_for_is_refused(
    own: DevServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = "mysql" if own.kind == "mariadb" else "mariadb"
    monkeypatch.setenv("MYSQLLOCK_URL", own.url)
    with pytest.raises(SettingsError, match=rf"of kind {own.kind} [\d.]+, but {other}"):
        private_server(other).__enter__()


def test_a_given_server_that_is_not_there_is_a_clear_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port = server_module._free_port()  # noqa: SLF001 - a port where nobody listens
    monkeypatch.setenv("MYSQLLOCK_URL", f"mysql://u:secret@127.0.0.1:{port}/d")
    with pytest.raises(CannotConnect) as refused:
        private_server().__enter__()
    assert "secret" not in str(refused.value)


def test_a_given_server_of_another_release_than_asked_for_is_refused(
    own: DevServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MYSQLLOCK_URL", own.url)
    with pytest.raises(SettingsError, match=rf"of kind {own.kind} \d+\.\d+.*but {own.kind}-1.2"):
        private_server(f"{own.kind}-1.2").__enter__()
    with private_server(own.kind) as given:
        assert isinstance(given, GivenServer)
    with private_server(f"{own.kind}-{given.version.rpartition('.')[0]}"):
        pass
