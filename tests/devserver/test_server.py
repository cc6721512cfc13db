"""DevServer as a library: faults on demand, databases, and nothing left behind."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.exceptions import (
    LoginRefused,
    SettingsError,
    UnknownDatabase,
)
from celery_mysqllock.mysql import Address, Session
from devserver import DevServer, ServerFailed
from devserver import program as program_module
from devserver import server as server_module
from tests.devserver.conftest import answers, command_lines

if TYPE_CHECKING:
    from pathlib import Path

    from devserver.program import Program


def write(url: str) -> None:
    with Session(Address.parse(url)) as session:
        session.execute("CREATE TABLE notes (id INT PRIMARY KEY) ENGINE=InnoDB")
        session.execute("INSERT INTO notes VALUES (1), (2)")


def count(url: str) -> int:
    with Session(Address.parse(url)) as session:
        return int(session.value("SELECT COUNT(*) FROM notes"))


def test_a_restart_keeps_data_and_url(own: DevServer) -> None:
    url = own.url
    write(url)
    own.restart()
    assert own.url == url
    assert count(url) == 2


def test_a_killed_server_is_down_until_started_and_keeps_committed_rows(own: DevServer) -> None:
    write(own.url)
    own.kill()
    assert not answers(own.url)
    own.start()
    assert count(own.url) == 2


def test_a_server_killed_right_after_its_start_comes_back(own: DevServer) -> None:
    own.kill()
    own.start()
    assert answers(own.url)


def test_a_stopped_server_can_be_stopped_and_killed_again(own: DevServer) -> None:
    own.stop()
    own.stop()
    own.kill()
    own.start()
    assert answers(own.url)


def test_check_tells_a_running_server_from_a_dead_one(own: DevServer) -> None:
    own.check()
    own.kill()
    with pytest.raises(ServerFailed, match=r"not running \(signal 9\)"):
        own.check()


def test_databases_are_separate_and_can_be_dropped(own: DevServer) -> None:
    one, two = own.create_database(), own.create_database("second_1")
    write(one)
    write(two)
    own.drop_database("second_1")
    assert count(one) == 2
    with pytest.raises(UnknownDatabase):
        count(two)


@pytest.mark.parametrize("name", ["a`; DROP DATABASE mysqllock; --", "a-b", "ä", "x" * 65])
def test_a_database_name_that_needs_quoting_is_refused(own: DevServer, name: str) -> None:
    with pytest.raises(SettingsError, match="letters, digits, underscores"):
        own.create_database(name)


def test_the_account_may_create_others_and_grant_them_rights(own: DevServer) -> None:
    with Session(Address.parse(own.url)) as session:
        session.execute("CREATE USER 'guest'@'%%' IDENTIFIED BY 'g'")
        session.execute("GRANT SELECT ON mysqllock.* TO 'guest'@'%%'")
    port = Address.parse(own.url).port
    assert answers(f"mysql://guest:g@127.0.0.1:{port}/mysqllock")


def test_nobody_gets_in_without_the_password(own: DevServer) -> None:
    port = Address.parse(own.url).port
    for user in ("root", "mysqllock", "guest"):
        with pytest.raises(LoginRefused):
            answers(f"mysql://{user}@127.0.0.1:{port}/mysqllock")


def test_the_server_listens_on_the_loopback_address_only(own: DevServer) -> None:
    with Session(Address.parse(own.url)) as session:
        assert session.value("SELECT @@bind_address") == "127.0.0.1"


def test_the_server_is_as_durable_as_a_real_one(own: DevServer) -> None:
    with Session(Address.parse(own.url)) as session:
        rows = session.query("SELECT @@innodb_flush_log_at_trx_commit, @@innodb_doublewrite")
    assert rows[0][0] == 1
    assert rows[0][1] in (1, "ON")


def test_the_password_is_in_no_process_list_log_or_file(own: DevServer, temporary: Path) -> None:
    password = Address.parse(own.url).password
    own.restart()
    listing = "\n".join(command_lines().values())
    assert f"--tmpdir={temporary}/" in listing
    assert password not in listing
    (folder,) = temporary.iterdir()
    for path in folder.glob("*"):
        assert path.is_dir() or password not in path.read_text(errors="replace")
    assert password not in repr(own)


def test_a_long_temporary_folder_is_no_obstacle(
    program: Program, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket's path may have 107 bytes."""
    long = temporary / ("x" * 150)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    with DevServer(program) as server:
        assert answers(server.url)


def test_only_its_user_can_look_into_its_folder(own: DevServer, temporary: Path) -> None:
    assert own
    (folder,) = temporary.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700


def test_close_ends_the_server_and_removes_its_files(program: Program, temporary: Path) -> None:
    with DevServer(program) as server:
        assert answers(server.url)
    assert not any(temporary.iterdir())
    assert not answers(server.url)
    server.close()
    with pytest.raises(ServerFailed, match="was closed"):
        server.check()


def test_a_server_that_dies_at_its_start_shows_its_log(
    program: Program, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program_module, "_COMMON", ("--no-such-option=1",))
    with pytest.raises(ServerFailed, match="no-such-option"), DevServer(program):
        pass
    assert not any(temporary.iterdir())


def test_a_data_directory_that_cannot_be_made_is_a_clear_error(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(program_module._LAYOUT, program.kind, "--no-such-option=1")  # noqa: SLF001
    with pytest.raises(ServerFailed, match=r"could not make a data directory[^$]*no-such-option"):
        DevServer(program).__enter__()
    templates = list((tmp_path / "celery-mysqllock/templates").glob("*"))
    assert all(path.suffix == ".lock" for path in templates)


def test_a_port_that_somebody_took_meanwhile_is_left_to_them(
    program: Program, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert temporary
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        ports = iter([taken, server_module._free_port()])  # noqa: SLF001 - the choice is replaced
        monkeypatch.setattr(server_module, "_free_port", lambda: next(ports))
        with DevServer(program) as server:
            assert Address.parse(server.url).port != taken
            assert answers(server.url)
