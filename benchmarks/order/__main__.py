"""``python -m benchmarks.order``: exit with 0 when each key's jobs ran in order, one at a time."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.campaign import Campaign
from benchmarks.fleet import Fleet
from benchmarks.load import Load
from benchmarks.notes import Reader
from benchmarks.order.app import app, locked, plain, queued
from benchmarks.order.ledger import Ledger
from benchmarks.programs import Programs
from celery_mysqllock.jobs import Migrations
from celery_mysqllock.mysql import Address, Session
from devserver import DevServer
from devserver.choice import choose

if TYPE_CHECKING:
    from collections.abc import Sequence

_WORKER = (
    *("celery", "-A", "benchmarks.order.app", "worker", "-n", "{name}@order"),
    *("--concurrency=2", "--loglevel=WARNING"),
)
_PATIENCE = 300.0  # seconds for all jobs
_WARM = 0.1  # the part of a run that is not measured
_MOST_SHOWN = 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Kill, then measure, as the command line says; return the exit code."""
    options = _parser().parse_args(arguments)
    random.seed(options.seed)
    console, load = Console(), Load()
    with DevServer(choose(options.server)) as server:
        with Session(Address.parse(server.url)) as session:
            Migrations(session).apply()
            version = session.server
        app.conf.broker_url = server.url
        is_right = _kill(console, options, server, str(version))
        load.look()
        _measure(console, options, server, str(version))
        load.look()
    console.print(str(load))
    return 0 if is_right else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.order", description=__doc__)
    parser.add_argument("--keys", type=int, default=200, help="keys (200)")
    parser.add_argument("--jobs", type=int, default=50, help="jobs of each key (50)")
    parser.add_argument("--workers", type=int, default=4, help="workers, 2 processes each (4)")
    parser.add_argument("--task", type=float, default=0.02, help="seconds that a task takes (0.02)")
    parser.add_argument("--gap", type=float, default=2.0, help="mean seconds between kills (2)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the measurement (3)")
    parser.add_argument("--server", help="mariadb, mysql, or a release: mariadb-11.8")
    parser.add_argument("--seed", type=int, default=None, help="of the random kills")
    return parser


def _kill(console: Console, options: argparse.Namespace, server: DevServer, version: str) -> bool:
    """Run all jobs while workers are killed at random; whether all was right."""
    began, ledger = time.monotonic(), Ledger()
    _publish(queued, options.keys, options.jobs, options.task)
    with tempfile.TemporaryDirectory(prefix="order-") as name:
        environment = {"BROKER_URL": server.url, "NOTES": name}
        with Programs(Path(name), environment) as programs:
            places = {f"worker-{number}": _WORKER for number in range(options.workers)}
            fleet = Fleet(programs, places)
            fleet.fill_all()
            campaign = Campaign(
                *(fleet, server), plan=("worker killed",), frozen_for=0, gap=options.gap, spare=1
            )
            reader = Reader(Path(name))

            def is_over() -> bool:
                ledger.add(reader.news())
                more: bool = len(ledger.ended) < options.keys * options.jobs
                campaign.step(more=more)
                return not more

            programs.until(is_over, "all jobs have run", _PATIENCE)
    killed = {victim: fault.at for fault in campaign.faults for victim in fault.victims}
    title = f"SIGKILL on {version}, {time.monotonic() - began:.0f} s"
    return _report(console, title, ledger, killed)


def _publish(task: Any, keys: int, jobs: int, seconds: float) -> float:  # noqa: ANN401 - Celery's
    """Send the jobs, those of all keys by turns; jobs a second."""
    began = time.perf_counter()
    for number in range(jobs):
        for key in range(keys):
            task.delay(key, number, seconds)
    return keys * jobs / (time.perf_counter() - began)


def _report(console: Console, title: str, ledger: Ledger, killed: dict[str, float]) -> bool:
    disorders, overlaps = ledger.disorders(), ledger.overlaps(killed)
    explained, unexplained = ledger.repeats(killed)
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", show_header=False)
    for name, value in (
        ("workers killed", len(killed)),
        ("jobs that ran to their end", len(ledger.ended)),
        ("ran again after their worker was killed", explained),
        ("ran again for no reason", unexplained),
        ("out of order", len(disorders)),
        ("overlaps within a key", len(overlaps)),
    ):
        table.add_row(name, str(value))
    console.print(table)
    for line in (*disorders, *overlaps)[:_MOST_SHOWN]:
        console.print(f"[red]{line}")
    return not disorders and not overlaps and not unexplained


def _measure(
    console: Console, options: argparse.Namespace, server: DevServer, version: str
) -> None:
    """Run as many jobs without a key, under locks of their own, and in the lines of their keys."""
    tasks = (plain, locked, queued)
    sent: dict[str, list[float]] = {task.name: [] for task in tasks}
    ran: dict[str, list[float]] = {task.name: [] for task in tasks}
    for _ in range(options.rounds):
        for task in tasks:
            sent[task.name].append(_publish(task, options.keys, options.jobs, 0))
            ran[task.name].append(_drain(options, server))
    table = Table(title=f"jobs a second on {version}", box=box.SIMPLE_HEAD, title_justify="left")
    for title in ("", "published", "beside plain", "run", "beside plain"):
        table.add_column(title, justify="right" if title else "left")
    for task in tasks:
        row = [task.name.rpartition(".")[2]]
        for rates in (sent, ran):
            ratios = [
                one / base for one, base in zip(rates[task.name], rates[plain.name], strict=True)
            ]
            row += [f"{median(rates[task.name]):.0f}", f"{median(ratios):.2f}"]
        table.add_row(*row)
    console.print(table)


def _drain(options: argparse.Namespace, server: DevServer) -> float:
    """Have the workers run what is there; jobs a second."""
    ledger = Ledger()
    with tempfile.TemporaryDirectory(prefix="order-") as name:
        environment = {"BROKER_URL": server.url, "NOTES": name}
        with Programs(Path(name), environment) as programs:
            Fleet(
                programs, {f"worker-{number}": _WORKER for number in range(options.workers)}
            ).fill_all()
            reader = Reader(Path(name))

            def is_over() -> bool:
                ledger.add(reader.news())
                return len(ledger.ended) >= int(options.keys * options.jobs)

            programs.until(is_over, "all jobs have run", _PATIENCE)
            _await_no_rows(programs, server)
    return ledger.rate(_WARM)


def _await_no_rows(programs: Programs, server: DevServer) -> None:
    with Session(Address.parse(server.url)) as session:
        programs.until(lambda: session.query("SELECT id FROM jobs LIMIT 1") == [], "no rows", 60)


if __name__ == "__main__":
    sys.exit(main())
