"""Which server is taken, and what is said when there is none.

The machine is made to look different by programs of the test's own, found on the PATH.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.exceptions import SettingsError
from devserver import NoServer, ServerFailed, apt, packages, program, template
from devserver.choice import choose

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
    monkeypatch.delenv("MYSQLLOCK_SERVER", raising=False)
    (tmp_path / "bin").mkdir()

    def put(name: str, script: str) -> Path:
        path = tmp_path / "bin" / name
        path.write_text(f"#!/bin/sh\n{textwrap.dedent(script)}\n")
        path.chmod(0o755)
        return path

    return put


@pytest.fixture
def debian(place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The machine is a Debian 12 whose apt reaches nothing."""
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


def test_mariadb_goes_before_mysql(place: Place) -> None:
    mysqld, mariadbd = place("mysqld", MYSQL), place("mariadbd", MARIADB)
    assert choose(None).argv == (str(mariadbd),)
    assert choose("mysql").argv == (str(mysqld),)


def test_a_release_is_taken_only_if_it_is_that_one(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    mariadbd = place("mariadbd", MARIADB)
    for fits in ("mariadb-10", "mariadb-10.11", "mariadb-10.11.19"):
        assert choose(fits).argv == (str(mariadbd),)
    for other in ("mariadb-10.1", "mariadb-11.8", "mysql-10.11"):
        with pytest.raises(NoServer, match=f"No {other} server is installed"):
            choose(other)
    monkeypatch.setenv("MYSQLLOCK_SERVER", "mariadb-11.8")
    with pytest.raises(NoServer, match=r"No mariadb-11\.8 server is installed"):
        choose()


@pytest.mark.parametrize("asked", ["postgres", "mariadb-", "mariadb-new", "mariadb11.8", "-11.8"])
def test_what_is_no_server_is_refused(asked: str) -> None:
    with pytest.raises(SettingsError, match="has to be mariadb or mysql, with a release"):
        choose(asked)


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


@pytest.mark.usefixtures("debian")
def test_an_archive_without_the_package_shows_what_apt_said_and_the_choices(
    tmp_path: Path,
) -> None:
    with pytest.raises(NoServer) as error:
        choose(None)
    assert "No archive has the package mariadb-server-core" in str(error.value)
    assert "W: Failed to fetch, the network is unreachable" in str(error.value)
    assert "docker compose up -d" in str(error.value)
    assert not list((tmp_path / "cache/celery-mysqllock/servers").glob("*.part-*"))


@pytest.mark.usefixtures("debian")
def test_only_the_distributions_own_archives_are_asked() -> None:
    assert apt.archives() == [
        apt.Archive("http://mirror/debian/", "bookworm", ("main", "contrib")),
        apt.Archive("http://mirror/new/", "bookworm-updates", ("main",)),
    ]


@pytest.mark.usefixtures("debian")
@pytest.mark.parametrize(
    ("kind", "release", "suite"),
    [
        ("mariadb", "", ""),
        ("mariadb", "10.11", ""),
        ("mariadb", "11.8.9", "trixie"),
        ("mariadb", "13.1", "sid"),
        ("mysql", "", "sid"),
        ("mysql", "9.7", "sid"),
    ],
)
def test_each_server_comes_from_the_debian_release_that_has_it(
    kind: str, release: str, suite: str
) -> None:
    assert packages._suite(kind, release) == suite  # noqa: SLF001 - else 15 to 50 MB are fetched


@pytest.mark.usefixtures("debian")
def test_a_server_of_another_debian_release_brings_all_its_libraries() -> None:
    sources, installed = packages._plan("trixie")  # noqa: SLF001 - as above
    assert sources == [apt.Archive("http://mirror/debian/", "trixie", ("main",))]
    assert installed.startswith("Package: perl\n")
    assert len(packages._plan("")[0]) == 2  # noqa: SLF001 - as above


@pytest.mark.parametrize("word", ["mysql", "maria", "mariadb"])
def test_the_sql_files_are_found_by_whichever_name_they_have(word: str, tmp_path: Path) -> None:
    names = [f"{word}{name}" for name in template._SYSTEM_SQL]  # noqa: SLF001 - no old server is here
    for name in (*names, f"{word}_test_db.sql", "fill_help_tables.sql"):
        (tmp_path / name).write_text(f"-- {name}\n")
    sql = template._system_sql(tmp_path)  # noqa: SLF001 - as above
    assert [line[3:] for line in sql.splitlines() if line.startswith("-- ")] == names
    (tmp_path / names[4]).unlink()  # as before MariaDB 10.6
    assert template._system_sql(tmp_path) in sql  # noqa: SLF001 - as above
    (tmp_path / names[3]).unlink()
    with pytest.raises(ServerFailed, match=r"complete: .* no mariadb_add_gis_sp_bootstrap\.sql"):
        template._system_sql(tmp_path)  # noqa: SLF001 - as above


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
