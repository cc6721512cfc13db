"""A container that is a command, run as a process of this machine."""

from __future__ import annotations

import io
import os
import shlex
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tests.smoke.local_engine.container import LocalContainer, Options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.smoke.local_engine.owner import Owner


class ProcessContainer(LocalContainer):
    """A command with its mounts below a folder of its own.

    A path inside of a mount, as the working directory or as a variable's whole value, is turned
    into the path on this machine. ``%h`` in an argument, which Celery replaces by the host's
    name, becomes the name that Docker would have given the container.

    Args:
        options: What ``docker run`` was told.
        owner: Starts and ends the process.
        volumes: The folders of the named volumes.
    """

    def __init__(self, options: Options, owner: Owner, volumes: Mapping[str, Path]) -> None:
        super().__init__(options)
        self._owner = owner
        self._pid: int | None = None
        folder = owner.folder / self.id[:12]
        self._root, temporary, self._log = folder / "root", folder / "tmp", folder / "log"
        self._root.mkdir(parents=True)
        temporary.mkdir()
        self._log.touch()
        # shorter paths first: one mount may be inside of another
        self._mounts = {
            mount["bind"]: volumes.get(source, Path(source))
            for source, mount in sorted(options.volumes.items(), key=lambda item: item[1]["bind"])
        }
        for target, source in self._mounts.items():
            self._mount(source, self._root / target.lstrip("/"))
        given = {name: self._inside(value) for name, value in self.environment().items()}
        programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        # a killed worker leaves files in its temporary folder
        self._environment = {"PATH": programs, "TMPDIR": str(temporary), **given}

    def start(self) -> None:
        argv = [part.replace("%h", self.hostname()) for part in self.options.command or []]
        self._pid = self._owner.start(argv, self._environment, self._working_folder(), self._log)
        self.status = "running"

    def stop(self, timeout: float = 10) -> None:
        if self._pid is None or self._owner.ended(self._pid) is not None:
            return
        self._owner.signal(self._pid, signal.SIGTERM)
        if self._owner.ended(self._pid, timeout) is None:
            self._owner.signal(self._pid, signal.SIGKILL)

    def kill(self, signal: str | int | None = None) -> None:
        if self._pid is not None:
            self._owner.signal(self._pid, number_of(signal))

    def reload(self) -> None:
        if self._pid is not None:
            self.status = "running" if self._owner.ended(self._pid) is None else "exited"

    def logs(self) -> bytes:
        return self._log.read_bytes()

    def exec_run(self, cmd: str | list[str]) -> tuple[int, bytes]:
        done = subprocess.run(
            shlex.split(cmd) if isinstance(cmd, str) else cmd,
            cwd=self._working_folder(),
            env={**os.environ, **self._environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        return done.returncode, done.stdout

    def put_archive(self, path: str, data: bytes | IO[bytes]) -> bool:
        """Unpack a tar archive in a folder of the container."""
        file = io.BytesIO(data) if isinstance(data, bytes) else data
        with tarfile.open(fileobj=file) as archive:
            # The argument `filter` came with 3.11.4; the attribute harms none before.
            archive.extraction_filter = getattr(tarfile, "data_filter", None)
            archive.extractall(self._inside(path))  # noqa: S202 - our own archives
        return True

    def remove(self, *, force: bool = False) -> None:
        if force:
            self.kill()
        else:
            self.stop()
        self.status = "removed"

    @staticmethod
    def _mount(source: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        # a mount inside of a volume is there already when a second container mounts the volume
        if not target.is_symlink():
            target.symlink_to(source)

    def _inside(self, path: str) -> str:
        mounted = any(path == target or path.startswith(f"{target}/") for target in self._mounts)
        return str(self._root / path.lstrip("/")) if mounted else path

    def _working_folder(self) -> Path:
        folder = Path(self._inside(self.options.working_dir))
        return folder if folder != Path("/") else self._root


def number_of(signal_or_name: str | int | None) -> signal.Signals:
    """Return the signal that Docker understands by that; SIGKILL for None."""
    if isinstance(signal_or_name, int):
        return signal.Signals(signal_or_name)
    return signal.Signals[signal_or_name or "SIGKILL"]
