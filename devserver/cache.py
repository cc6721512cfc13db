"""The user's cache folder, which keeps servers and data directories: complete or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from devserver.errors import NoServer
from devserver.progress import say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def folder() -> Path:
    """Return the cache folder of this package: below XDG_CACHE_HOME, or ~/.cache.

    A relative XDG_CACHE_HOME counts as unset, as the XDG base directory specification asks.
    """
    root = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (root if root.is_absolute() else Path.home() / ".cache") / "celery-mysqllock"


def kept(name: str, make: Callable[[Path], None]) -> Path:
    """Return the cached folder `name`; `make` fills it first where it does not exist yet.

    Of two processes that ask at once, one makes the folder and the other waits. A `make` that
    fails or is killed leaves no folder of that name.

    Raises:
        NoServer: The cache folder cannot be written.
    """
    final = folder() / name
    if not final.is_dir():
        with _locked(final):
            if not final.is_dir():
                _make(final, make)
    return final


def forget(path: Path) -> None:
    """Remove a cached folder that turned out to be unusable."""
    with _locked(path):
        shutil.rmtree(path)


def _make(final: Path, make: Callable[[Path], None]) -> None:
    for left in final.parent.glob(f"{final.name}.part-*"):
        shutil.rmtree(left)  # of a process that was killed in here: it no longer holds the lock
    part = Path(tempfile.mkdtemp(prefix=f"{final.name}.part-", dir=final.parent))
    try:
        make(part)
        part.rename(final)
    except BaseException:
        shutil.rmtree(part)
        raise


@contextlib.contextmanager
def _locked(final: Path) -> Iterator[None]:
    with _lock_file(final) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another process is preparing {final.name}, waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _lock_file(final: Path) -> TextIO:
    try:
        final.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return final.with_name(f"{final.name}.lock").open("w")
    except OSError as error:
        raise NoServer(
            f"The cache folder cannot be written ({error}). Point XDG_CACHE_HOME at one that can."
        ) from error
