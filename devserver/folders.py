"""The folder of one private server, and the removal of folders that a crash left behind."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path

_PREFIX = "mysqllock-"
_YOUNG = 60.0  # seconds: a folder this new may belong to a server that is being made


def new_folder() -> Path:
    """Make a folder below the system's temporary folder that only this user may enter."""
    _sweep()
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    (folder / "tmp").mkdir(mode=0o700)
    return folder


def remove(folder: Path, timeout: float = 5.0) -> None:
    """Remove a server's folder; a mysqld that is being killed may write to it for some seconds.

    Raises:
        OSError: It cannot be removed.
    """
    deadline = time.monotonic() + timeout
    while folder.exists() and time.monotonic() < deadline:
        shutil.rmtree(folder, ignore_errors=True)  # files may still be made meanwhile
        if folder.exists():
            time.sleep(0.05)
    if folder.exists():
        shutil.rmtree(folder)


def _sweep() -> None:
    """Remove folders whose watchdog was killed together with everything else."""
    for marker in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/in-use"):
        try:
            status = marker.stat()
            if status.st_uid != os.geteuid() or time.time() - status.st_mtime < _YOUNG:
                continue
            with marker.open() as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # what cannot be removed now is left to the next start
                shutil.rmtree(marker.parent, ignore_errors=True)
        except (BlockingIOError, FileNotFoundError):
            continue  # in use, or just removed by another process
