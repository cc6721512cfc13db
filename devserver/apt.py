"""A private apt: the system's archives and trust, but state, cache and packages of its own.

Nothing is installed and root is not needed. apt itself checks the archive's signature against the
distribution's keyring, and every file's hash against the signed index.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from devserver.errors import NoServer
from devserver.progress import Percent

STATUS = Path("/var/lib/dpkg/status")
_KEYRINGS = Path("/usr/share/keyrings")
_TAIL = 12  # lines of apt's output that an error quotes


@dataclass(frozen=True)
class Archive:
    """One suite of the distribution's own archive, as the system's sources list names it."""

    uri: str
    suite: str
    components: tuple[str, ...]


def usable() -> bool:
    """Tell whether this system has apt and dpkg-deb."""
    return all(map(shutil.which, ("apt-get", "apt-config", "dpkg", "dpkg-deb")))


def distribution() -> str:
    """Return "ubuntu" or "debian", or "" for a system that is like neither."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return ""
    names = [release.get("ID", ""), *release.get("ID_LIKE", "").split()]
    return next((name for name in ("ubuntu", "debian") if name in names), "")


def codename() -> str:
    """Return the name of this system's release, such as bookworm."""
    release = platform.freedesktop_os_release()
    return release.get("VERSION_CODENAME") or release.get("VERSION_ID", "rolling")


def release_key() -> str:
    """Return a key for this system's packages: distribution, release, architecture."""
    release = platform.freedesktop_os_release()
    return f"{release.get('ID', 'linux')}-{codename()}-{architecture()}"


def architecture() -> str:
    """Return dpkg's name of this machine's architecture."""
    return _read("dpkg", "--print-architecture").strip()


def archives() -> list[Archive]:
    """Return the distribution's archives that the system's own apt is set up with.

    The origin in its Release file excludes a third-party archive. Before that file is downloaded,
    the signature does: it does not match the distribution's keyring.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for stanza in _read("apt-get", "indextargets", "Created-By: Packages").split("\n\n"):
        target = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line)
        if "Repo-URI" in target and target.get("Origin", "").lower() in ("", distribution()):
            components = found.setdefault((target["Repo-URI"], target["Release"]), [])
            components.append(target["Component"])
    return [Archive(uri, suite, tuple(parts)) for (uri, suite), parts in found.items()]


class Apt:
    """apt with its state, cache and packages below `folder`.

    Args:
        folder: An empty folder for its lists and packages.
        sources: The archives to take packages from.
        installed: The contents of a dpkg status file: packages that need not be downloaded.
    """

    def __init__(self, folder: Path, sources: list[Archive], installed: str) -> None:
        self._folder = folder
        self.packages = folder / "archives"
        for part in ("lists/partial", "archives/partial", "parts"):
            (folder / part).mkdir(parents=True)
        (folder / "status").write_text(installed, encoding="utf-8")
        (folder / "sources.list").write_text(_sources_list(sources), encoding="utf-8")
        (folder / "apt.conf").write_text(self._configuration(), encoding="utf-8")

    def update(self) -> str:
        """Download the package lists and return what apt said.

        apt skips an archive that cannot be reached or verified; its packages are then missing.
        """
        return self._run("update", what="package lists", check=False)

    def names(self, prefix: str) -> list[str]:
        """Return the packages whose names begin with `prefix`."""
        return self._run("pkgnames", prefix, program="apt-cache").split()

    def size(self, package: str) -> int:
        """Return the bytes to download for `package` and what it needs."""
        lines = self._run("install", "--print-uris", package).splitlines()
        return sum(int(line.split()[2]) for line in lines if line.startswith("'"))

    def download(self, package: str) -> list[Path]:
        """Download `package` and what it needs; return the files."""
        self._run("install", "--download-only", package, what=package)
        return sorted(self.packages.glob("*.deb"))

    @staticmethod
    def unpack(package: Path, root: Path) -> None:
        """Unpack a downloaded package below `root`; none of its scripts run."""
        _read("dpkg-deb", "-x", str(package), str(root))

    def _run(
        self, *arguments: str, program: str = "apt-get", what: str = "", check: bool = True
    ) -> str:
        command = [program, *arguments]
        code = self._follow(command, Percent(what)) if what else self._call(command).wait()
        said = (self._folder / "output").read_text(errors="replace")
        if code and check:
            raise NoServer(f"apt failed: {' '.join(command)}\n{tail(said)}")
        return said

    def _follow(self, command: list[str], percent: Percent) -> int:
        """Run apt, show its progress, return its exit code."""
        read, write = os.pipe()
        process = self._call([*command, "-o", f"APT::Status-Fd={write}"], write)
        os.close(write)
        try:
            with os.fdopen(read) as status:
                for line in status:  # dlstatus:<file number>:<percent>:<text>
                    if line.startswith("dlstatus:"):
                        percent.show(float(line.split(":")[2]))
            return process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            percent.close()

    def _call(self, command: list[str], *inherited: int) -> subprocess.Popen[bytes]:
        with (self._folder / "output").open("wb") as output:
            return subprocess.Popen(  # noqa: S603 - apt with fixed arguments
                command,
                env={**os.environ, "APT_CONFIG": str(self._folder / "apt.conf"), "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=inherited,
            )

    def _configuration(self) -> str:
        lines = [
            line  # proxies, certificates, retries: how this system reaches its archives
            for line in _read("apt-config", "dump").splitlines()
            if line.startswith("Acquire::") and not line.startswith("Acquire::IndexTargets")
        ]
        login = _read(
            "apt-config", "shell", "F", "Dir::Etc::netrc/f", "P", "Dir::Etc::netrcparts/d"
        )
        netrc = dict(part.split("=", 1) for part in login.split())
        settings = {
            "Dir::Etc::main": "none",
            "Dir::Etc::parts": self._folder / "parts",
            "Dir::Etc::sourcelist": self._folder / "sources.list",
            "Dir::Etc::sourceparts": self._folder / "parts",
            "Dir::Etc::preferences": self._folder / "parts/none",
            "Dir::Etc::preferencesparts": self._folder / "parts",
            "Dir::Etc::netrc": netrc["F"].strip("'"),
            "Dir::Etc::netrcparts": netrc["P"].strip("'"),
            "Dir::State": self._folder,
            "Dir::State::lists": self._folder / "lists",
            "Dir::State::status": self._folder / "status",
            "Dir::State::extended_states": self._folder / "extended_states",
            "Dir::Cache": self._folder,
            "Dir::Cache::archives": self.packages,
            "APT::Architecture": architecture(),
            "APT::Architectures": architecture(),
            "APT::Install-Recommends": "false",
            "APT::Get::Assume-Yes": "true",
            "quiet": "1",
            # As root, apt would download as a user who cannot enter a private folder.
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
            # Whatever the system allows: only signed packages are used here.
            "Acquire::AllowInsecureRepositories": "false",
            "Acquire::AllowWeakRepositories": "false",
            "Acquire::AllowDowngradeToInsecureRepositories": "false",
        }
        lines += [f'{name} "{value}";' for name, value in settings.items()]
        return "\n".join(lines) + "\n"


def tail(text: str) -> str:
    """Return the last lines of a program's output."""
    return "\n".join(text.strip().splitlines()[-_TAIL:])


def _sources_list(sources: list[Archive]) -> str:
    names = (f"{distribution()}-archive-keyring.{end}" for end in ("gpg", "pgp"))
    keyring = next((_KEYRINGS / name for name in names if (_KEYRINGS / name).exists()), None)
    if keyring is None:
        raise NoServer(
            f"The keyring of the {distribution()} archive is not below {_KEYRINGS}, so no package "
            f"can be verified. Install the package {distribution()}-archive-keyring."
        )
    return "".join(
        f"deb [signed-by={keyring}] {one.uri} {one.suite} {' '.join(one.components)}\n"
        for one in sources
    )


def _read(*command: str) -> str:
    done = subprocess.run(  # noqa: S603 - a program of the system, with fixed arguments
        command,
        env={**os.environ, "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise NoServer(f"{' '.join(command)} failed:\n{tail(done.stderr)}")
    return done.stdout
