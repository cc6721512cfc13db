"""The folder of one private server, and those that a power failure or the like left behind."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path

_PREFIX = "mysqllock-"
_YOUNG = 60.0  # seconds: a folder this new may belong to a server that is just being made


def new_folder() -> Path:
    """Make a folder for a server below the system's temporary folder, for this user alone."""
    _sweep()
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    (folder / "tmp").mkdir(mode=0o700)
    return folder


def remove(folder: Path, patience: float = 5.0) -> None:
    """Remove a server's folder; a mysqld that is being killed may write to it `patience` seconds.

    Raises:
        OSError: It cannot be removed.
    """
    deadline = time.monotonic() + patience
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
                # what resists now is left to the next start
                shutil.rmtree(marker.parent, ignore_errors=True)
        except (BlockingIOError, FileNotFoundError):
            continue  # in use, or just removed by somebody else
