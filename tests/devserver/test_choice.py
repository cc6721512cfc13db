"""Which server is taken, and what is said when there is none.

The machine is made to look different by programs of the test's own, found on the PATH.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.devserver import NoServer, apt, packages, program
from celery_mysqllock.devserver.choice import choose

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Place = Callable[[str, str], Path]

MARIADB = 'echo "$0  Ver 10.11.19-MariaDB for debian-linux-gnu on x86_64"'
MYSQL = 'echo "$0  Ver 8.4.3 for Linux on x86_64 (Source distribution)"'


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A machine without any program; `place(name, script)` puts one on the PATH."""
    monkeypatch.setattr(program, "_FOLDERS", ())
    monkeypatch.setattr(program, "_APPARMOR", tmp_path / "no-apparmor")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "bin").mkdir()

    def put(name: str, script: str) -> Path:
        path = tmp_path / "bin" / name
        path.write_text(f"#!/bin/sh\n{textwrap.dedent(script)}\n")
        path.chmod(0o755)
        return path

    return put


def test_mariadb_goes_before_mysql(place: Place) -> None:
    mysqld, mariadbd = place("mysqld", MYSQL), place("mariadbd", MARIADB)
    assert choose(None).argv == (str(mariadbd),)
    assert choose("mysql").argv == (str(mysqld),)


def test_a_mysqld_that_is_mariadb_counts_as_mariadb(place: Place) -> None:
    place("mysqld", MARIADB)
    assert choose(None).kind == "mariadb"
    assert [one.kind for one in program.installed()] == ["mariadb"]


def test_a_server_that_cannot_run_is_passed_over(place: Place) -> None:
    place("mariadbd", "exit 127")
    mysqld = place("mysqld", MYSQL)
    assert choose(None).argv == (str(mysqld),)


def test_a_server_that_apparmor_confines_is_passed_over(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mysqld = place("mysqld", MYSQL)
    (tmp_path / "enabled").write_text("Y\n")
    profile = tmp_path / "profiles" / str(mysqld).lstrip("/").replace("/", ".")
    profile.parent.mkdir()
    monkeypatch.setattr(program, "_APPARMOR", tmp_path / "enabled")
    monkeypatch.setattr(program, "_APPARMOR_PROFILES", profile.parent)
    profile.write_text("# This file is intentionally empty\n")
    assert len(program.installed()) == 1
    profile.write_text(f"{mysqld} {{\n}}\n")
    assert program.installed() == []


@pytest.mark.parametrize("kind", [None, "mariadb", "mysql"])
def test_no_server_and_no_apt_names_the_choices(kind: str | None) -> None:
    with pytest.raises(NoServer) as error:
        choose(kind)
    for choice in ("MYSQLLOCK_URL=mysql://", "docker compose up -d", "apt", "dnf", "brew"):
        assert choice in str(error.value)


def test_an_archive_without_the_package_shows_what_apt_said_and_the_choices(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _debian(place, monkeypatch, tmp_path)
    with pytest.raises(NoServer) as error:
        choose(None)
    assert "No archive has the package mariadb-server-core" in str(error.value)
    assert "W: Failed to fetch, the network is unreachable" in str(error.value)
    assert "docker compose up -d" in str(error.value)
    assert not list((tmp_path / "cache/celery-mysqllock/servers").glob("*.part-*"))


def test_only_the_distributions_own_archives_are_asked(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _debian(place, monkeypatch, tmp_path)
    assert apt.archives() == [
        apt.Archive("http://mirror/debian/", "bookworm", ("main", "contrib")),
        apt.Archive("http://mirror/new/", "bookworm-updates", ("main",)),
    ]


def test_mysql_comes_from_sid_alone_on_debian(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _debian(place, monkeypatch, tmp_path)
    sources, installed = packages._plan("mysql")  # noqa: SLF001 - else 50 MB are downloaded
    assert sources == [apt.Archive("http://mirror/debian/", "sid", ("main",))]
    assert installed.startswith("Package: perl\n")


@pytest.mark.parametrize(
    ("names", "newest"),
    [
        (["mariadb-server-core"], "mariadb-server-core"),
        (["mariadb-server-core-10.5", "mariadb-server-core-10.11"], "mariadb-server-core-10.11"),
        (["mariadb-server-core-10.6", "mariadb-server-core"], "mariadb-server-core"),
        (["mariadb-server-core-dbgsym"], None),
        ([], None),
    ],
)
def test_the_newest_package_is_taken(names: list[str], newest: str | None) -> None:
    assert packages._newest(names, "mariadb-server-core") == newest  # noqa: SLF001 - else apt decides


def _debian(place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Make the machine a Debian 12 whose apt reaches nothing."""
    monkeypatch.setattr(
        "platform.freedesktop_os_release",
        lambda: {"ID": "debian", "VERSION_CODENAME": "bookworm"},
    )
    keyring = tmp_path / "debian-archive-keyring.gpg"
    keyring.touch()
    monkeypatch.setattr(apt, "_KEYRINGS", tmp_path)
    monkeypatch.setattr(apt, "STATUS", keyring)
    place("dpkg", "echo amd64")
    place("dpkg-deb", "exit 1")
    place("apt-cache", "exit 0")
    place("apt-config", "echo \"F='/etc/apt/auth.conf'\nP='/etc/apt/auth.d/'\"")
    place(
        "apt-get",
        """\
        case "$*" in
        *update*)
            echo 'W: Failed to fetch, the network is unreachable' ;;
        indextargets*)
            printf 'Repo-URI: http://mirror/debian/\\nRelease: bookworm\\nComponent: main\\n'
            printf 'Origin: Debian\\n\\n'
            printf 'Repo-URI: http://mirror/debian/\\nRelease: bookworm\\nComponent: contrib\\n'
            printf 'Origin: Debian\\n\\n'
            printf 'Repo-URI: http://other/debian/\\nRelease: bookworm\\nComponent: main\\n'
            printf 'Origin: MariaDB\\n\\n'
            printf 'Repo-URI: http://mirror/new/\\nRelease: bookworm-updates\\nComponent: main\\n'
        esac""",
    )
