"""``python -m benchmarks.beat``: kill the active beat; exit with 0 when each tick was sent once."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.beat.ledger import read_ledger
from benchmarks.programs import Program, ProgramFailed, Programs
from celery_mysqllock.jobs import LockNames, Migrations
from celery_mysqllock.locks import MySQLLock
from celery_mysqllock.mysql import Address, Session, used_by
from devserver import DevServer
from devserver.choice import choose

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.beat.ledger import Ledger

_STARTUP = 60.0  # seconds for a beat's start
_HANDOVER = 60.0  # seconds for the next beat to have the lock
_IS_ACTIVE, _IS_NO_LONGER = "This beat is the active one", "This beat has lost its lock"
_LOOK = 0.0005  # seconds between two looks at who has the lock
_BEAT = ("celery", "-A", "benchmarks.beat.app", "beat", "-S", "mysqllock", "--pidfile=")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line describes; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.beat", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="how long (10)")
    parser.add_argument("--beats", type=int, default=3, help="beats (3)")
    parser.add_argument("--interval", type=float, default=1, help="seconds between two ticks (1)")
    parser.add_argument("--gap", type=float, default=20, help="seconds between two kills (20)")
    parser.add_argument("--server", help="mariadb, mysql, or a release: mariadb-11.8")
    parser.add_argument("--keep", action="store_true", help="keep the logs")
    options = parser.parse_args(arguments)
    console, folder = Console(), Path(tempfile.mkdtemp(prefix="beats-"))
    try:
        with DevServer(choose(options.server)) as server:
            return _run(console, options, server.url, folder)
    finally:
        if options.keep:
            console.print(f"Logs are in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _run(console: Console, options: argparse.Namespace, url: str, folder: Path) -> int:
    with Session(Address.parse(url)) as session:
        Migrations(session).apply()
        environment = {"BROKER_URL": url, "INTERVAL": str(options.interval)}
        with Programs(folder, environment) as programs:
            beats = Beats(programs, session, options.beats)
            handovers = beats.suffer(options.minutes * 60, options.gap)
        ledger = read_ledger(session, options.interval)
        title = (
            f"{options.beats} beats on {session.server}, a task every {options.interval:g} s for "
            f"{options.minutes:g} minutes, SIGKILL of the active one every {options.gap:g} s"
        )
    _report(console, title, ledger, handovers)
    return 0 if ledger.is_right else 1


class Beats:
    """The beats.

    Args:
        programs: Starts them.
        session: A session with their server.
        number: How many they are.
    """

    def __init__(self, programs: Programs, session: Session, number: int) -> None:
        self._programs = programs
        self._session = session
        self._lock = MySQLLock(LockNames.of(session, "jobs").beat, url=session.address)
        self._started = 0
        self._running: dict[int, Program] = {}
        for _ in range(number):
            self._start()
        programs.until(
            lambda: all("This beat is" in one.log or "stands by" in one.log for one in self),
            "each beat works or stands by",
            _STARTUP,
        )

    def __iter__(self) -> Iterator[Program]:
        return iter(list(self._running.values()))

    def _start(self) -> None:
        program = self._programs.start(f"beat-{self._started}", *_BEAT, "--loglevel=INFO")
        self._started += 1
        self._running[program.pid] = program

    def suffer(self, seconds: float, gap: float) -> list[float]:
        """Kill the active one again and again; how long the others took to take over."""
        handovers = []
        end = time.monotonic() + seconds
        next_kill = time.monotonic() + gap
        while next_kill < end:
            time.sleep(max(0.0, next_kill - time.monotonic()))
            handovers.append(self._kill_active())
            self._start()
            next_kill += gap
        time.sleep(max(0.0, end - time.monotonic()))
        return handovers

    def _kill_active(self) -> float:
        active, had = self._active(), used_by(self._session, self._lock.name)
        killed = time.monotonic()
        os.killpg(active.pid, signal.SIGKILL)
        while used_by(self._session, self._lock.name) in (None, had):
            if time.monotonic() > killed + _HANDOVER:
                raise ProgramFailed(f"Nobody has taken over.\n{next(iter(self)).tail()}")
            time.sleep(_LOOK)
        taken = time.monotonic()
        active.kill()
        del self._running[active.pid]
        return taken - killed

    def _active(self) -> Program:
        found: list[Program] = []

        def seen() -> bool:
            found[:] = [
                one for one in self if one.log.rfind(_IS_ACTIVE) > one.log.rfind(_IS_NO_LONGER)
            ]
            return len(found) == 1

        self._programs.until(seen, "one of the beats has the lock", _HANDOVER)
        return found[0]


def _report(console: Console, title: str, ledger: Ledger, handovers: list[float]) -> None:
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", show_header=False)
    for name, value in (
        ("ticks due", ledger.due),
        ("sent", ledger.sent),
        ("missed", ledger.missed),
        ("[bold]doubled", ledger.doubled),
        ("beats killed", len(handovers)),
        ("hand-over, median", _milliseconds(handovers)),
        ("hand-over, worst", f"{max(handovers, default=0) * 1000:.1f} ms"),
        ("a tick is sent after it was due, median", _milliseconds(ledger.lateness)),
        ("  ... worst", f"{max(ledger.lateness) * 1000:.1f} ms"),
    ):
        table.add_row(name, str(value))
    console.print(table)
    console.print("[green]each tick was sent once" if ledger.is_right else "[red]wrong")


def _milliseconds(seconds: list[float]) -> str:
    return f"{median(seconds) * 1000:.1f} ms" if seconds else "none"


if __name__ == "__main__":
    sys.exit(main())
