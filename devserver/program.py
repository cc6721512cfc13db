"""A mysqld program on this machine: which kind and version it is, and how it is called."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

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

    def share(self) -> Path:
        """Return the folder with the server's SQL files and messages."""
        out = _output((*self.argv, "--no-defaults", *self.options, "--verbose", "--help"), self)
        charsets = next(line for line in out.splitlines() if line.startswith("character-sets-dir"))
        return Path(charsets.split(maxsplit=1)[1]).parent


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
