"""``python -m benchmarks.adoption``: adopt a table in use; exit with 0 if each message ran once."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.adoption.before import LOCK
from benchmarks.notes import Reader
from benchmarks.programs import Programs
from celery_mysqllock.jobs import Migrations
from celery_mysqllock.mysql import Address, Session
from devserver import DevServer
from devserver.choice import choose

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.programs import Program

_ORIGINAL = """CREATE TABLE jobs (
    id INT AUTO_INCREMENT PRIMARY KEY, message VARCHAR(255) NOT NULL, job_status INT DEFAULT 0
)"""
_PATIENCE = 60.0
_BATCH = 1000  # rows of one INSERT


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line describes; return the exit code."""
    options = _parser().parse_args(arguments)
    console = Console()
    notes = Path(tempfile.mkdtemp(prefix="adoption-"))
    try:
        with DevServer(choose(options.server)) as server:
            return run(console, options, server.url, notes)
    finally:
        shutil.rmtree(notes, ignore_errors=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.adoption", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000, help="rows of the table (10000)")
    parser.add_argument("--producers", type=int, default=3, help="producers from before (3)")
    parser.add_argument("--consumers", type=int, default=2, help="consumers from before (2)")
    parser.add_argument("--workers", type=int, default=3, help="workers (3)")
    parser.add_argument("--rate", type=float, default=40, help="INSERTs a second of each (40)")
    parser.add_argument("--seconds", type=float, default=15, help="of INSERTs beside workers (15)")
    parser.add_argument("--server", help="mariadb, mysql, or a release: mariadb-11.8")
    parser.add_argument(
        "--without-lock", action="store_true", help="workers claim without the consumers' lock"
    )
    return parser


def run(console: Console, options: argparse.Namespace, url: str, notes: Path) -> int:
    """Fill the table, start the old programs, migrate, start workers, wait, and report."""
    environment = {
        "BROKER_URL": url,
        "NOTES": str(notes),
        "BROKER_OPTIONS": json.dumps({"legacy_lock": None if options.without_lock else LOCK}),
    }
    ledger, reader = Ledger(), Reader(notes)
    with Session(Address.parse(url)) as session, Programs(notes, environment) as programs:
        ledger.confirmed |= dict.fromkeys(_fill(session, options.rows), 0.0)
        producers = _start(programs, "producer", options.producers, options.rate)
        _start(programs, "consumer", options.consumers, options.rate)
        time.sleep(1)
        began = time.monotonic()
        with console.status("migrating while the programs from before go on"):
            Migrations(session).apply()
        ended = time.monotonic()
        workers = [
            programs.start(
                f"worker-{number}",
                *("celery", "-A", "benchmarks.adoption.app", "worker", "--concurrency=2"),
                *("--loglevel=INFO", "-n", f"worker-{number}@adoption"),
                AUTHOR=f"worker-{number}",
            )
            for number in range(options.workers)
        ]
        for worker in workers:
            programs.until(partial(_is_ready, worker), "a worker is ready", _PATIENCE)
        with console.status("all programs at once"):
            time.sleep(options.seconds)
            for producer in producers:
                producer.kill()
            programs.until(lambda: not _open_jobs(session), "an empty table", 10 * _PATIENCE)
        time.sleep(2)
        ledger.add(reader.news(), began, ended)
        stored = {str(row[0]) for row in session.query("SELECT message FROM jobs")}
        # so may it be with one that nobody has taken
        ledger.confirmed |= dict.fromkeys(stored - ledger.confirmed.keys(), 0.0)
        version = session.server
    return ledger.report(console, f"adoption on {version}", ended - began)


def _is_ready(worker: Program) -> bool:
    return " ready." in worker.log


def _start(programs: Programs, role: str, count: int, rate: float) -> list[Program]:
    module = ("benchmarks.adoption.before", role, str(rate))
    names = [f"{role}-{number}" for number in range(count)]
    return [programs.start(name, *module, AUTHOR=name) for name in names]


def _fill(session: Session, rows: int) -> list[str]:
    session.execute(_ORIGINAL)
    messages = [f"before-{number}" for number in range(rows)]
    for start in range(0, rows, _BATCH):
        part = messages[start : start + _BATCH]
        session.execute(
            f"INSERT INTO jobs (message) VALUES {', '.join(['(%s)'] * len(part))}",  # noqa: S608 - no values
            part,
        )
    return messages


def _open_jobs(session: Session) -> bool:
    return bool(
        session.value("SELECT EXISTS (SELECT 1 FROM jobs WHERE job_status = 0 OR owner > '')")
    )


class Ledger:
    """Who has taken which message."""

    def __init__(self) -> None:
        self.confirmed: dict[str, float] = {}
        self._meanwhile: list[float] = []
        self._takers: dict[str, list[str]] = defaultdict(list)

    def add(self, notes: Iterable[dict[str, Any]], began: float, ended: float) -> None:
        """Take in what the programs have noted; the migration ran between these two times."""
        for note in notes:
            if note["kind"] == "taken":
                # a killed producer may not have noted what it had stored
                self.confirmed.setdefault(note["message"], 0.0)
                self._takers[note["message"]].append(str(note["by"]))
                continue
            self.confirmed[note["message"]] = note["seconds"]
            if note["at"] >= began and note["at"] - note["seconds"] <= ended:
                self._meanwhile.append(note["seconds"])

    def report(self, console: Console, title: str, migrating: float) -> int:
        """Print what happened; 0 when each message was taken once."""
        lost = self.confirmed.keys() - self._takers.keys()
        twice = {message: by for message, by in self._takers.items() if len(by) > 1}
        takers = Counter(by.split("-")[0] for all_by in self._takers.values() for by in all_by)
        table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", show_header=False)
        table.add_column(no_wrap=True)
        table.add_column(justify="right")
        for what, figure in (
            ("messages", len(self.confirmed)),
            ("taken by consumers from before", takers["consumer"]),
            ("taken by workers", takers["worker"]),
            ("lost", len(lost)),
            ("taken twice", len(twice)),
            ("INSERTs during the migration", len(self._meanwhile)),
        ):
            table.add_row(what, f"{figure:,}")
        table.add_row("the migration", f"{migrating:.2f} s")
        longest = max(self._meanwhile, default=0.0)
        table.add_row("  the longest INSERT meanwhile", f"{longest * 1000:.0f} ms")
        console.print(table)
        for message, by in list(twice.items())[:5]:
            console.print(f"[red]taken twice: {message} by {' and '.join(by)}")
        return 1 if lost or twice else 0


if __name__ == "__main__":
    sys.exit(main())
