"""``python -m benchmarks.locks``: measure the locks and print the tables."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
from statistics import median, quantiles
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.load import Load
from benchmarks.locks import kinds
from benchmarks.locks.handover import after_kill, after_release
from benchmarks.locks.pair import OVERHEAD, pair_costs, ratio
from benchmarks.one_core import on_one_core
from benchmarks.redis_server import redis_server
from celery_mysqllock.mysql import Address, Session
from devserver import private_server

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Seen = Callable[[], object]

_HANDED_OVER = (kinds.OURS, kinds.REDIS_PY, kinds.FLOCK)
_FREED_BY_DEATH = (kinds.OURS, kinds.FLOCK)
_CROWDS = (1, 4, 16, 64)
_MOST = 120.0  # seconds that a crowd may take


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all and print the tables; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.locks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=21, help="rounds of pairs (21)")
    parser.add_argument("--handovers", type=int, default=60, help="releases of each kind (60)")
    parser.add_argument("--kills", type=int, default=15, help="killed holders of each kind (15)")
    parser.add_argument("--seconds", type=float, default=2, help="seconds that a crowd takes (2)")
    options = parser.parse_args(arguments)
    console = Console()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(private_server())
        redis_url, pids = "", [server.pid] if server.private else []
        try:
            redis_url, pid = stack.enter_context(redis_server(durable=False))
            pids.append(pid)
        except (FileNotFoundError, TimeoutError) as error:
            console.print(f"Redis is skipped: {error}")
        with Session(Address.parse(server.url)) as session:
            version = str(session.server)
        stack.callback(shutil.rmtree, kinds.FLOCK_FOLDER, ignore_errors=True)
        # Redis has no TLS here either
        urls = (f"{server.url}?ssl_mode=DISABLED", redis_url)
        _measure(console, options, version, urls, pids)
    return 0


def _measure(
    console: Console,
    options: argparse.Namespace,
    version: str,
    urls: tuple[str, str],
    pids: list[int],
) -> None:
    load = Load()
    handed_over = kinds.without_missing(_HANDED_OVER, urls[1])
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:

        def step(title: str, parts: int) -> Seen:
            task = progress.add_task(title, total=parts)

            def seen() -> None:
                progress.advance(task)
                load.look()

            return seen

        with on_one_core(pids):
            costs = pair_costs(*urls, options.rounds, step("pairs", options.rounds))
        released = {
            kind: after_release(
                kind, urls, options.handovers, step(f"release, {kind}", options.handovers)
            )
            for kind in handed_over
        }
        killed = {
            kind: after_kill(kind, urls, options.kills, step(f"SIGKILL, {kind}", options.kills))
            for kind in _FREED_BY_DEATH
        }
        seen = step("crowds", len(handed_over) * len(_CROWDS) * 2)
        crowds = {
            (kind, many, names): _crowd((kind, str(many), str(names)), options.seconds, urls, seen)
            for many in _CROWDS
            for kind in handed_over
            for names in (1, many)
        }
    console.print(_pair_table(f"{version}; {load}", costs))
    console.print(_handover_table(released, killed))
    console.print(_crowd_table(crowds))


def _crowd(what: tuple[str, str, str], seconds: float, urls: tuple[str, str], seen: Seen) -> float:
    """Pairs a second of a kind of lock, so many processes, and so many names."""
    output = subprocess.run(  # noqa: S603 - our own module
        [
            *(sys.executable, "-m", "benchmarks.locks.crowd", *what, str(seconds)),
        ],
        env={**os.environ, "LOCKS_MYSQL": urls[0], "LOCKS_REDIS": urls[1]},
        stdout=subprocess.PIPE,
        check=True,
        timeout=_MOST,
        text=True,
    ).stdout
    seen()
    return float(output)


def _pair_table(version: str, costs: dict[str, list[float]]) -> Table:
    table = Table(
        title=f"take and give back, nobody contends ({version}; Redis without fsync)",
        box=box.SIMPLE_HEAD,
        title_justify="left",
    )
    table.add_column("")
    for column in ("µs, median", "x two SELECT 1", "aim"):
        table.add_column(column, justify="right")
    aims = {kinds.OURS: "1.15", OVERHEAD: "1.5"}
    for kind, values in costs.items():
        share = ratio(costs, kind, kinds.TWO_SELECTS)
        table.add_row(kind, f"{median(values):.1f}", f"{share:.2f}", aims.get(kind, ""))
    if kinds.SINGLETON in costs:
        faster = ratio(costs, kinds.SINGLETON, kinds.OURS)
        table.caption = f"celery-singleton's pair costs {faster:.2f} x ours (aim: more than 1)"
    return table


def _handover_table(released: dict[str, list[float]], killed: dict[str, list[float]]) -> Table:
    table = Table(title="from one holder to the next", box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("")
    for column in ("release, ms p50", "p90", "worst", "SIGKILL, ms p50", "worst"):
        table.add_column(column, justify="right")
    for kind, values in released.items():
        death = killed.get(kind)
        table.add_row(
            kind,
            *(f"{value:.2f}" for value in (median(values), quantiles(values, n=10)[-1])),
            f"{max(values):.2f}",
            *((f"{median(death):.2f}", f"{max(death):.2f}") if death else ("at its TTL", "")),
        )
    return table


def _crowd_table(crowds: dict[tuple[str, int, int], float]) -> Table:
    table = Table(
        title="pairs a second of all processes together", box=box.SIMPLE_HEAD, title_justify="left"
    )
    table.add_column("processes", justify="right")
    for kind in dict.fromkeys(kind for kind, _, _ in crowds):
        table.add_column(f"{kind}\non one name", justify="right")
        table.add_column("each on\nits own", justify="right")
    for many in _CROWDS:
        kinds_seen = dict.fromkeys(kind for kind, _, _ in crowds)
        figures = (crowds[kind, many, names] for kind in kinds_seen for names in (1, many))
        table.add_row(str(many), *(f"{figure:,.0f}" for figure in figures))
    return table


if __name__ == "__main__":
    sys.exit(main())
