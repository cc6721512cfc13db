"""A server from the distribution's packages, unpacked into the user's cache without root."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

from celery_mysqllock.devserver import apt, cache
from celery_mysqllock.devserver.apt import Apt, Archive
from celery_mysqllock.devserver.errors import NoServer
from celery_mysqllock.devserver.program import NAMES, Program, probe
from celery_mysqllock.devserver.progress import say

_PACKAGE = {"mariadb": "mariadb-server-core", "mysql": "mysql-server-core"}
# Perl is for helper scripts that come with mysqld; mysqld runs without.
_NOT_NEEDED = (
    "Package: perl\nStatus: install ok installed\nArchitecture: {}\nVersion: 999\n"
    "Multi-Arch: allowed\nMaintainer: none\nDescription: not needed\n\n"
)


def available(kind: str) -> bool:
    """Tell whether a server of this kind can be had from packages here."""
    return kind in _PACKAGE and apt.usable() and apt.distribution() != ""


def fetched(kind: str) -> Program:
    """Return a server of this kind from the cache; download and unpack it first where needed.

    Raises:
        NoServer: The packages cannot be had; the message says why.
    """
    name = f"servers/{kind}-{apt.release_key()}"
    root = cache.kept(name, lambda part: _unpack(kind, part))
    program = _program(root)
    if program is None:  # the system's libraries have changed since
        cache.forget(root)
        program = _program(cache.kept(name, lambda part: _unpack(kind, part)))
    if program is None:
        raise NoServer(f"The server from the package {_PACKAGE[kind]} does not run on this system.")
    return program


def _unpack(kind: str, root: Path) -> None:
    sources, installed = _plan(kind)
    with tempfile.TemporaryDirectory(prefix="apt-", dir=root) as folder:
        private = Apt(Path(folder), sources, installed)
        say(f"asking this system's package archive for {_PACKAGE[kind]}")
        said = private.update()
        lists = re.search(r"^Fetched ([\d.,]+ \wB)", said, re.MULTILINE)
        if lists:
            say(f"fetched {lists[1]} of package lists")
        package = _newest(private.names(_PACKAGE[kind]), _PACKAGE[kind])
        if package is None:
            raise NoServer(
                f"No archive has the package {_PACKAGE[kind]}. apt says:\n{apt.tail(said)}"
            )
        megabytes = private.size(package) / 1e6
        say(
            f"fetching {package} with its libraries, "
            f"{megabytes:.0f} MB; nothing is installed, it goes to {cache.folder()}"
        )
        for file in private.download(package):
            private.unpack(file, root)
            with (root / "packages.txt").open("a") as listing:
                listing.write(f"{file.name}\n")
    for part in ("bin", "share/doc", "share/man", "share/locale"):  # half of MySQL's size
        shutil.rmtree(root / "usr" / part, ignore_errors=True)


def _plan(kind: str) -> tuple[list[Archive], str]:
    archives = apt.archives()
    if not (kind == "mysql" and apt.distribution() == "debian"):
        return archives, apt.STATUS.read_text(encoding="utf-8")
    # Debian has MySQL in sid only, so all that it needs comes from there, libc included.
    for one in archives:
        if "-" not in one.suite:
            return [Archive(one.uri, "sid", ("main",))], _NOT_NEEDED.format(apt.architecture())
    raise NoServer("This system's apt knows no Debian archive to take MySQL from.")


def _newest(names: list[str], base: str) -> str | None:
    # older releases have the version in the name: mariadb-server-core-10.6, mysql-server-core-8.0
    found = {
        tuple(map(int, match[1].split("."))) if match[1] else (10**6,): name
        for name in names
        if (match := re.fullmatch(rf"{base}(?:-([\d.]+))?", name))
    }
    return found[max(found)] if found else None


def _program(root: Path) -> Program | None:
    binary = next(
        (root / "usr/sbin" / name for name in NAMES if (root / "usr/sbin" / name).exists()), None
    )
    messages = next(root.glob("usr/share/*/english/errmsg.sys"), None)
    if binary is None or messages is None:
        return None
    share = messages.parent.parent
    options = (
        f"--basedir={root / 'usr'}",
        f"--lc-messages-dir={share}",
        f"--character-sets-dir={share / 'charsets'}",
        f"--plugin-dir={root / 'usr/lib/mysql/plugin'}",
    )
    libraries = ":".join(str(path) for path in sorted(root.glob("**/lib/*-linux-gnu*/")))
    loader = next(root.glob("**/lib/*/ld-linux*.so.*"), None)
    if loader is not None:  # a libc other than the system's needs its own dynamic loader
        return probe((str(loader), "--library-path", libraries, str(binary)), options)
    return probe((str(binary),), options, {"LD_LIBRARY_PATH": libraries})
