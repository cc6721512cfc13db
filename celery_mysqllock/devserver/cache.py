"""The user's cache folder: what takes long to get is kept there, whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from celery_mysqllock.devserver.errors import NoServer
from celery_mysqllock.devserver.progress import say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def folder() -> Path:
    """Return the cache folder of this package: below XDG_CACHE_HOME, or ~/.cache.

    A relative XDG_CACHE_HOME counts as unset, as the XDG base directory specification asks.
    """
    root = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(root) if Path(root).is_absolute() else Path.home() / ".cache"
    return base / "celery-mysqllock"


def kept(name: str, make: Callable[[Path], None]) -> Path:
    """Return the cached folder `name`; `make` fills it first where it does not exist yet.

    Two processes that ask at once get one folder, made once: the second waits. A `make` that
    fails or is killed leaves nothing that would be taken for a complete folder.

    Raises:
        NoServer: the cache folder cannot be written.
    """
    final = folder() / name
    if final.is_dir():
        return final
    try:
        final.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(final.with_name(final.name + ".lock")):
            if not final.is_dir():
                _make(final, make)
    except PermissionError as error:
        raise NoServer(
            f"The cache folder cannot be written ({error}). Point XDG_CACHE_HOME at one that can."
        ) from error
    return final


def forget(path: Path) -> None:
    """Remove a cached folder that turned out to be of no use."""
    with _locked(path.with_name(path.name + ".lock")):
        shutil.rmtree(path, ignore_errors=True)


def _make(final: Path, make: Callable[[Path], None]) -> None:
    for left in final.parent.glob(f"{final.name}.part-*"):
        shutil.rmtree(left, ignore_errors=True)  # of a process that was killed in here
    part = Path(tempfile.mkdtemp(prefix=f"{final.name}.part-", dir=final.parent))
    try:
        make(part)
        part.rename(final)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process that is preparing {path.stem}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
