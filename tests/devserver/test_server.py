"""DevServer as a library: faults on demand, databases, and nothing left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.devserver import (
    DevServer,
    NotOurServer,
    ServerFailed,
    options,
    private_server,
)
from celery_mysqllock.devserver import server as server_module
from celery_mysqllock.exceptions import (
    CannotConnect,
    DatabaseError,
    LoginRefused,
    SettingsError,
    UnknownDatabase,
)
from celery_mysqllock.mysql import Address, Session
from tests.devserver.conftest import answers, command_lines, wait_for

if TYPE_CHECKING:
    from celery_mysqllock.devserver.program import Program


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
    monkeypatch.setattr(options, "_COMMON", ("--no-such-option=1",))
    with pytest.raises(ServerFailed, match="no-such-option"), DevServer(program):
        pass
    assert not any(temporary.iterdir())


def test_a_data_directory_that_cannot_be_made_is_a_clear_error(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(
        "celery_mysqllock.devserver.template.layout_options", lambda _: ("--no-such-option=1",)
    )
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


def test_a_watchdog_that_is_killed_takes_the_server_with_it(
    program: Program, temporary: Path
) -> None:
    with DevServer(program) as server:
        status = Path(f"/proc/{server.pid}/status")
        if not status.exists():
            pytest.skip("the kernel's help for this is Linux's own")
        parent = next(line for line in status.read_text().splitlines() if line.startswith("PPid"))
        os.kill(int(parent.split()[1]), signal.SIGKILL)
        wait_for(lambda: not answers(server.url))
        with pytest.raises(ServerFailed, match="watchdog"):
            server.start()
    assert not any(temporary.iterdir())


def test_a_forked_child_neither_ends_the_server_nor_keeps_it(
    program: Program, temporary: Path
) -> None:
    """An owner forks, its child leaves the `with` block and lives on; then the owner is killed."""
    assert program
    script = (
        "import os, sys, time\n"
        "from celery_mysqllock.devserver import private_server\n"
        "with private_server() as server:\n"
        "    if os.fork():\n"
        "        os.wait()\n"
        "        child = os.fork()\n"
        "        if child:\n"
        "            print(server.url, child, flush=True)\n"
        "        time.sleep(600)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "MYSQLLOCK_URL"}
    owner = subprocess.Popen(
        [sys.executable, "-c", script],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert owner.stdout is not None
    url, child = owner.stdout.readline().split()
    try:
        assert answers(url)
        owner.kill()
        owner.wait()
        wait_for(lambda: not any(temporary.iterdir()))
        os.kill(int(child), 0)
    finally:
        os.kill(int(child), signal.SIGKILL)
        owner.stdout.close()


def test_what_a_power_failure_left_is_removed_by_the_next_start(
    program: Program, temporary: Path
) -> None:
    left, young = temporary / "mysqllock-left", temporary / "mysqllock-young"
    for folder in (left, young):
        folder.mkdir()
        (folder / "in-use").touch()
    hour_ago = time.time() - 3600
    os.utime(left / "in-use", (hour_ago, hour_ago))
    with DevServer(program) as first:
        (running,) = [one for one in temporary.iterdir() if one not in (left, young)]
        os.utime(running / "in-use", (hour_ago, hour_ago))
        with DevServer(program) as second:
            assert answers(first.url)
            assert answers(second.url)
            assert not left.exists()
            assert young.exists()


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
    with pytest.raises(SettingsError, match=f"of kind {own.kind}, but {other}"):
        private_server(other).__enter__()


def test_a_given_server_that_is_not_there_is_a_clear_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port = server_module._free_port()  # noqa: SLF001 - a port where nobody listens
    monkeypatch.setenv("MYSQLLOCK_URL", f"mysql://u:secret@127.0.0.1:{port}/d")
    with pytest.raises(CannotConnect) as refused:
        private_server().__enter__()
    assert "secret" not in str(refused.value)
