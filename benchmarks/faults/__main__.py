"""``python -m benchmarks.faults``: inject faults; exit with 0 when no confirmed job was lost."""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from benchmarks.faults.report import report
from benchmarks.faults.siege import SESSION_TIMEOUT, Siege, rows_left
from benchmarks.fleet import Fleet
from benchmarks.notes import Reader
from benchmarks.programs import Programs
from celery_mysqllock.jobs import Migrations
from celery_mysqllock.mysql import Address, Session
from devserver import DevServer
from devserver.choice import choose
from devserver.network import Network

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaign that the command line describes; return the exit code."""
    options = _parser().parse_args(arguments)
    random.seed(options.seed)
    console = Console()
    notes = Path(tempfile.mkdtemp(prefix="faults-"))
    try:
        with DevServer(choose(options.server)) as server:
            return run(console, options, server, notes)
    finally:
        if options.keep:
            console.print(f"Logs and notes are in {notes}")
        else:
            shutil.rmtree(notes, ignore_errors=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000, help="confirmed publishes (20000)")
    parser.add_argument("--workers", type=int, default=4, help="workers, 2 processes each (4)")
    parser.add_argument("--producers", type=int, default=2, help="producers (2)")
    parser.add_argument("--rate", type=float, default=150, help="publishes a second in all (150)")
    parser.add_argument("--task", type=float, default=0.03, help="seconds that a task takes (0.03)")
    parser.add_argument("--gap", type=float, default=2.5, help="mean seconds between faults (2.5)")
    parser.add_argument("--drain", type=float, default=120, help="seconds to wait at the end (120)")
    parser.add_argument("--pool", default="prefork", help="the workers' pool (prefork)")
    parser.add_argument("--server", help="mariadb, mysql, or a release: mariadb-11.8")
    parser.add_argument("--seed", type=int, default=None, help="of the random faults")
    parser.add_argument("--keep", action="store_true", help="keep logs and notes")
    return parser


def run(console: Console, options: argparse.Namespace, server: DevServer, notes: Path) -> int:
    """Start the fleet, inject the faults, wait for the last message, and report."""
    began = time.monotonic()
    with Session(Address.parse(server.url)) as session:
        Migrations(session).apply()
        version = session.server
        # A default that must not matter: what does not commit by itself is lost.
        session.execute("SET GLOBAL autocommit = 0")
    network = Network(server.url)
    environment = {
        "BROKER_URL": network.url,
        "BROKER_OPTIONS": json.dumps({"session_timeout": SESSION_TIMEOUT}),
        "NOTES": str(notes),
    }
    with network, Programs(notes, environment) as programs:
        fleet = Fleet(programs, _commands(options))
        siege = Siege(options, server, fleet, Reader(notes), network)
        siege.lay(console)
    title = f"faults on {version}, {time.monotonic() - began:.0f} s"
    is_right = report(console, title, siege.ledger, siege.faults, rows_left(server.url))
    for line in siege.fallen:
        console.print(f"[yellow]ended by itself:[/] {escape(line)}", soft_wrap=True)
    if not siege.is_complete:
        console.print("[red]Too few publishes were confirmed in the time.")
    return 0 if is_right and siege.is_complete else 1


def _commands(options: argparse.Namespace) -> dict[str, tuple[str, ...]]:
    worker = (
        *("celery", "-A", "benchmarks.faults.app", "worker", "-n", "{name}@faults"),
        *("--concurrency=2", f"--pool={options.pool}", "--loglevel=INFO"),
    )
    rate = str(options.rate / options.producers)
    producer = ("benchmarks.faults.producer", rate, str(options.task))
    return {
        **{f"worker-{number}": worker for number in range(options.workers)},
        **{f"producer-{number}": producer for number in range(options.producers)},
    }


if __name__ == "__main__":
    sys.exit(main())
