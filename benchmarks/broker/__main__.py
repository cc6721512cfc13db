"""``python -m benchmarks.broker``: measure the brokers in one run and print the table."""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.broker import brokers as known
from benchmarks.broker.rates import bare_inserts, rates
from benchmarks.broker.report import Measured, report
from benchmarks.broker.workers import work
from benchmarks.load import Load

if TYPE_CHECKING:
    from collections.abc import Sequence

_PEERS = [known.REDIS, known.RABBITMQ, known.SQLALCHEMY]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.broker", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds, of which medians (5)")
    parser.add_argument("--messages", type=int, default=2000, help="published in a round (2000)")
    parser.add_argument("--tasks", type=int, default=3000, help="tasks of a burst (3000)")
    parser.add_argument("--probes", type=int, default=150, help="tasks for each latency (150)")
    parser.add_argument("--idle", type=float, default=5, help="seconds of idleness (5)")
    parser.add_argument("--only", nargs="*", default=_PEERS, choices=_PEERS, help="these peers")
    parser.add_argument("--server", help="mariadb, mysql, or a release: mariadb-11.8")
    parser.add_argument("--pictures", type=Path, help="folder for the pictures (none)")
    options = parser.parse_args(arguments)
    console = Console()
    with known.all_brokers(console, options.server, options.only) as (version, brokers):
        load = Load()
        measured = _measure(console, options, brokers, load)
    report(console, f"{version}; {load}", measured)
    if options.pictures:
        from benchmarks.broker.pictures import draw  # noqa: PLC0415 - matplotlib is slow to load

        for path in draw(measured, version, options.pictures):
            console.print(f"drawn: {path}")
    return 0


def _measure(
    console: Console, options: argparse.Namespace, brokers: list[known.Broker], load: Load
) -> dict[str, Measured]:
    measured: dict[str, Measured] = defaultdict(Measured)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        steps = {
            broker.name: progress.add_task(broker.name, total=options.rounds) for broker in brokers
        }
        for _ in range(options.rounds):
            for broker in brokers:
                one = measured[broker.name]
                published, consumed = rates(broker, round(options.messages * broker.pace))
                one.published.append(published)
                one.consumed.append(consumed)
                if broker.name == known.OURS:
                    one.bare.append(bare_inserts(broker.url, options.messages))
                one.worked.append(work(broker, options.tasks, options.probes, options.idle))
                progress.advance(steps[broker.name])
                load.look()
    return dict(measured)


if __name__ == "__main__":
    sys.exit(main())
