"""``python -m benchmarks.run_lock``: kill the holders; exit with 0 when no commands overlapped."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.notes import Reader
from benchmarks.run_lock.crowd import NAME, Crowd
from benchmarks.run_lock.report import Kill, report
from celery_mysqllock.exceptions import NoSuchSession
from celery_mysqllock.mysql import Address, Session
from devserver import DevServer
from devserver.choice import choose

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence

_KINDS = ("run killed", "guard killed", "command killed", "session killed")
_TICK = 0.02  # seconds between two looks
_INTO = 0.1  # seconds from a section's begin to a kill, at most


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line describes; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run_lock", description=__doc__)
    parser.add_argument("--processes", type=int, default=50, help="at a time (50)")
    parser.add_argument("--kills", type=int, default=160, help="kills of a holder (160)")
    parser.add_argument("--limit", type=float, default=900, help="seconds at most (900)")
    parser.add_argument("--server", help="mariadb, mysql, or a release: mariadb-11.8")
    options = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="run-lock-"))
    console = Console()
    try:
        with DevServer(choose(options.server)) as server:
            return _run(console, options, server.url, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(console: Console, options: argparse.Namespace, url: str, folder: Path) -> int:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    began = time.monotonic()
    with (
        Session(Address.parse(url)) as session,
        Progress(*columns, TimeElapsedColumn(), console=console) as progress,
        Crowd(url, folder, options.processes) as crowd,
    ):
        task = progress.add_task("kills", total=options.kills)
        siege = Siege(session, crowd, Reader(folder))
        while len(siege.kills) < options.kills and time.monotonic() < began + options.limit:
            siege.step()
            progress.update(task, completed=len(siege.kills))
            time.sleep(_TICK)
        siege.look()
    title = f"{options.processes} x mysqllock run on {session.server}"
    title += f", {time.monotonic() - began:.0f} s"
    is_right = report(console, title, siege.notes, siege.kills, crowd.ended)
    return 0 if is_right and len(siege.kills) >= options.kills else 1


class Siege:
    """Kills what belongs to every other holder, each time in another way.

    Args:
        session: For the KILL of a session.
        crowd: The processes.
        reader: Reads what the sections note.

    Attributes:
        notes: All that they have noted.
        kills: What was done.
    """

    def __init__(self, session: Session, crowd: Crowd, reader: Reader) -> None:
        self.notes: list[dict[str, Any]] = []
        self.kills: list[Kill] = []
        self._session = session
        self._crowd = crowd
        self._reader = reader
        self._seen: set[int] = set()
        self._round: list[str] = []

    def look(self) -> None:
        """Read what is new."""
        self.notes += sorted(self._reader.news(), key=lambda note: note["at"])

    def step(self) -> None:
        """See to the crowd, and kill something if a section has begun."""
        self._crowd.fill()
        self.look()
        last = self.notes[-1] if self.notes else None
        if last is None or last["kind"] != "begin" or last["pid"] in self._seen:
            return
        self._seen.add(last["pid"])
        holder = self._crowd.holder_of(last["guard"])
        if holder is None or random.random() < 1 / 2:  # noqa: S311 - no secret
            return
        time.sleep(random.uniform(0, _INTO))  # noqa: S311 - no secret
        self._round = self._round or random.sample(_KINDS, len(_KINDS))
        kind = self._round.pop()
        at = time.monotonic()
        if self._kill(kind, holder, last):
            self.kills.append(Kill(kind, at, last["pid"]))

    def _kill(self, kind: str, holder: subprocess.Popen[bytes], begin: dict[str, Any]) -> bool:
        with suppress(ProcessLookupError, NoSuchSession):
            if kind == "run killed":
                holder.kill()
            elif kind == "session killed":
                lock = f"{self._session.address.database}:{NAME}"
                self._session.execute("KILL IS_USED_LOCK(%s)", (lock,))
            else:
                os.kill(begin["guard" if kind == "guard killed" else "pid"], signal.SIGKILL)
            return True
        return False


if __name__ == "__main__":
    sys.exit(main())
