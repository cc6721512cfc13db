"""A mysqld program on this machine: its kind and version, the options it runs with, and the choice.

`mariadb-11.8` is the form in which a kind and, if wanted, a release are asked for.
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from celery_mysqllock.exceptions import SettingsError

VARIABLE = "MYSQLLOCK_SERVER"
HOST = "127.0.0.1"
MARIADB, MYSQL = "mariadb", "mysql"
KINDS = (MARIADB, MYSQL)
NAMES = ("mariadbd", "mysqld")

# Where packages and Homebrew put mysqld when it is not on an ordinary user's PATH.
_FOLDERS = (
    "/usr/sbin",
    "/usr/libexec",
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/local/libexec",
    "/usr/local/mysql/bin",
    "/opt/homebrew/opt/mariadb*/bin",
    "/opt/homebrew/opt/mysql*/bin",
    "/usr/local/opt/mariadb*/bin",
    "/usr/local/opt/mysql*/bin",
    "/home/linuxbrew/.linuxbrew/opt/mariadb*/bin",
    "/home/linuxbrew/.linuxbrew/opt/mysql*/bin",
)
_APPARMOR = Path("/sys/module/apparmor/parameters/enabled")
_APPARMOR_PROFILES = Path("/etc/apparmor.d")
_TIMEOUT = 60  # seconds for mysqld to print its version or its help

# Small memory and files that are quick to copy. Durability is the server's default: doublewrite and
# a flush at each commit stay on, so that the results of a kill test hold for a real server.
_COMMON = (
    "--skip-name-resolve",
    "--skip-log-bin",
    "--character-set-server=utf8mb4",
    "--max-connections=500",
    "--innodb-buffer-pool-size=128M",
    "--innodb-log-buffer-size=16M",
    "--key-buffer-size=1M",
)
# "loose": versions that do not know the option ignore it
_OWN = {MARIADB: "--loose-aria-pagecache-buffer-size=8M", MYSQL: "--loose-mysqlx=OFF"}
_LAYOUT = {
    MARIADB: "--innodb-log-file-size=48M",
    MYSQL: "--loose-innodb-redo-log-capacity=64M",
}


@dataclass(frozen=True)
class Program:
    """A mysqld that can be run.

    Attributes:
        kind: "mariadb" or "mysql".
        version: What `--version` says, without the path.
        argv: The command, to be followed by options.
        options: Options that say where its own files are; empty for an installed server.
        environment: Variables that it needs beside those of this process.
    """

    kind: str
    version: str
    argv: tuple[str, ...]
    options: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def number(self) -> str:
        """The numbers of its version, such as 11.8.3; "unknown" if it does not say them."""
        found = re.search(r"\d+\.\d+\.\d+", self.version)
        return found.group() if found else "unknown"

    def environ(self) -> dict[str, str]:
        """Return the whole environment to run it with."""
        return {**os.environ, **self.environment}

    @property
    def layout(self) -> str:
        """The option that shapes the files of a data directory: the same at every start."""
        return _LAYOUT[self.kind]

    def command(self, data: Path) -> list[str]:
        """Return the command that runs it on the data directory `data`; options may follow."""
        command = [
            *self.argv,
            "--no-defaults",  # must be the first option: no configuration of this machine is read
            *self.options,
            self.layout,
            f"--datadir={data}",
        ]
        if os.geteuid() == 0:
            command.append("--user=root")  # mysqld refuses to run as root unless told to
        return command

    def serving(self, folder: Path, port: int) -> list[str]:
        """Return the command that serves the data below `folder` on 127.0.0.1."""
        return [
            *self.command(folder / "data"),
            *_COMMON,
            _OWN[self.kind],
            f"--tmpdir={folder / 'tmp'}",
            f"--secure-file-priv={folder / 'tmp'}",  # Debian's default is a folder of the package
            f"--log-error={folder / 'mysqld.log'}",
            "--socket=mysqld.sock",  # relative to the data directory: a path may have 107 bytes
            "--pid-file=mysqld.pid",
            f"--bind-address={HOST}",
            f"--port={port}",
        ]

    def share(self) -> Path:
        """Return the folder with the server's SQL files and messages."""
        out = _output((*self.argv, "--no-defaults", *self.options, "--verbose", "--help"), self)
        charsets = next(line for line in out.splitlines() if line.startswith("character-sets-dir"))
        return Path(charsets.split(maxsplit=1)[1]).parent


@dataclass(frozen=True)
class Wanted:
    """What a server has to be to be taken.

    Attributes:
        kind: "mariadb" or "mysql"; None if either will do.
        release: The first numbers of its version, such as "11.8"; "" for any.
    """

    kind: str | None = None
    release: str = ""

    @classmethod
    def parse(cls, text: str | None) -> Wanted:
        """Read `mariadb`, `mysql`, `mariadb-11.8` or the like; None and "" ask for any server.

        Raises:
            SettingsError: The text is none of these.
        """
        if not text:
            return cls()
        found = re.fullmatch(rf"({'|'.join(KINDS)})(?:-(\d+(?:\.\d+)*))?", text)
        if not found:
            raise SettingsError(
                f"{text!r} is no kind of server ({VARIABLE} or --server): "
                f"it has to be {' or '.join(KINDS)}, with a release if you like: mariadb-11.8."
            )
        return cls(found[1], found[2] or "")

    def __str__(self) -> str:
        return "-".join(filter(None, (self.kind, self.release))) or " or ".join(KINDS)

    def suits(self, kind: str, version: str) -> bool:
        """Tell whether a server of this kind and version, such as 11.8.3, is what is asked for."""
        return self.kind in (None, kind) and f"{version}.".startswith(
            self.release and f"{self.release}."
        )


def installed() -> list[Program]:
    """Return the servers installed on this machine, MariaDB first.

    Left out are those that cannot run, and those that AppArmor confines to the system's own data
    directory.
    """
    places = [Path(place) for place in os.get_exec_path()]
    for pattern in _FOLDERS:
        places += sorted(Path("/").glob(pattern.lstrip("/")))
    binaries = [place / name for place in places for name in NAMES]
    unique = {path.resolve(): path for path in reversed(binaries) if os.access(path, os.X_OK)}
    found = [probe((str(path),)) for path in unique if path.is_file() and not _confined(path)]
    return sorted((program for program in found if program), key=lambda one: one.kind)


def probe(
    argv: tuple[str, ...],
    options: tuple[str, ...] = (),
    environment: dict[str, str] | None = None,
) -> Program | None:
    """Return the program behind a command, or None when it cannot run."""
    draft = Program("", "", argv, options, environment or {})
    try:
        out = _output((*argv, "--no-defaults", "--version"), draft)
    except (OSError, subprocess.SubprocessError):
        return None
    kind = MARIADB if "MariaDB" in out else MYSQL
    version = out[out.find("Ver ") :].strip()
    return Program(kind, version, argv, options, draft.environment)


def _output(command: tuple[str, ...], program: Program) -> str:
    done = subprocess.run(  # noqa: S603 - mysqld of this machine, with fixed options
        command,
        env=program.environ(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        errors="replace",
        timeout=_TIMEOUT,
        check=True,
    )
    return done.stdout


def _confined(binary: Path) -> bool:
    # Ubuntu's profile allows mysqld no data directory but /var/lib/mysql.
    if not _APPARMOR.exists() or _APPARMOR.read_text().strip() != "Y":
        return False
    profile = _APPARMOR_PROFILES / str(binary).lstrip("/").replace("/", ".")
    if not profile.exists():
        return False
    return any(line.startswith(f"{binary} ") for line in profile.read_text().splitlines())
