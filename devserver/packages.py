"""A server from the distribution's packages, unpacked into the user's cache without root.

On Debian it may be another release of the server, which comes from the Debian release that has it:
MariaDB 11.8 runs on Debian 12 with the libraries of Debian 13, the C library included.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

from devserver import apt, cache
from devserver.apt import Apt, Archive
from devserver.errors import NoServer
from devserver.program import NAMES, Program, Wanted, probe
from devserver.progress import say

_PACKAGE = {"mariadb": "mariadb-server-core", "mysql": "mysql-server-core"}
# The Debian release that has each release of a server; any other is looked for in sid.
_SUITES = {"mariadb-10.5": "bullseye", "mariadb-10.11": "bookworm", "mariadb-11.8": "trixie"}
# Perl is for helper scripts that come with mysqld; mysqld runs without.
_NOT_NEEDED = (
    "Package: perl\nStatus: install ok installed\nArchitecture: {}\nVersion: 999\n"
    "Multi-Arch: allowed\nMaintainer: none\nDescription: not needed\n\n"
)


def available() -> bool:
    """Tell whether this system has packages to take a server from."""
    return apt.usable() and apt.distribution() != ""


def fetched(kind: str, release: str = "") -> Program:
    """Return a server of this kind from the cache; download and unpack it first where needed.

    Args:
        kind: "mariadb" or "mysql".
        release: The first numbers of its version, such as "11.8"; "" for the distribution's own.

    Raises:
        NoServer: The packages cannot be fetched; the message says why.
    """
    suite = _suite(kind, release)
    name = f"servers/{kind}{suite and f'-{suite}'}-{apt.release_key()}"
    root = cache.kept(name, lambda part: _unpack(kind, suite, part))
    program = _program(root)
    if program is None:  # the system's libraries have changed since
        cache.forget(root)
        program = _program(cache.kept(name, lambda part: _unpack(kind, suite, part)))
    if program is None:
        raise NoServer(f"The server from the package {_PACKAGE[kind]} does not run on this system.")
    if not Wanted(kind, release).suits(program.kind, program.number):
        raise NoServer(
            f"{kind} {release} is asked for, but the package archive has {program.number}. "
            f"Ask for that one, or for a release that Debian has: {', '.join(_SUITES)}."
        )
    return program


def _suite(kind: str, release: str) -> str:
    """Return the Debian release that has such a server, "" where it is this system's own."""
    if apt.distribution() != "debian":
        return ""
    if kind == "mysql":
        return "sid"  # the only one that has it
    if not release:
        return ""
    suite = _SUITES.get(f"{kind}-{'.'.join(release.split('.')[:2])}", "sid")
    return "" if suite == apt.codename() else suite


def _unpack(kind: str, suite: str, root: Path) -> None:
    sources, installed = _plan(suite)
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


def _plan(suite: str) -> tuple[list[Archive], str]:
    archives = apt.archives()
    if not suite:
        return archives, apt.STATUS.read_text(encoding="utf-8")
    # A server of another Debian release takes all libraries from there, libc included.
    for one in archives:
        if "-" not in one.suite:
            return [Archive(one.uri, suite, ("main",))], _NOT_NEEDED.format(apt.architecture())
    raise NoServer(f"This system's apt knows no Debian archive to take packages of {suite} from.")


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
