"""``python -m benchmarks.broker.scale``: how ours behaves as the backlog and the fleet grow."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import psutil
from celery import Celery
from kombu import Connection, Exchange, Queue
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.broker.brokers import OURS, Broker
from benchmarks.broker.rates import consume
from benchmarks.programs import Programs
from celery_mysqllock.jobs import Migrations
from celery_mysqllock.mysql import Address, Session
from devserver import DevServer
from devserver.choice import choose

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_MESSAGE = {"task": "bench.note", "args": [1], "kwargs": {}}
_QUEUE = Queue("scale", Exchange(""), "scale", durable=True)
_BACKLOGS = (1_000, 10_000, 100_000, 1_000_000, 5_000_000)
_FLEETS = (1, 2, 4, 8, 16, 32)
_CONSUMED = 900  # messages of each measurement of a backlog
_FLEET_BACKLOG = 60_000
_FLEET_SECONDS = 3.0
_BATCH = 100_000  # rows that one INSERT adds
_PATIENCE = 60.0
_SETTLED = 5.0  # seconds until a worker's memory is what it stays

_COLUMNS = "message, queue, claim_order, job_status, due_at"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.broker.scale", description=__doc__)
    parser.add_argument("--most", type=int, default=5_000_000, help="largest backlog (5000000)")
    parser.add_argument("--fleet", type=int, default=32, help="largest fleet (32)")
    parser.add_argument("--delayed", type=int, default=100_000, help="delayed tasks (100000)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each (3)")
    parser.add_argument("--server", help="mariadb, mysql, or a release: mariadb-11.8")
    options = parser.parse_args(arguments)
    console = Console()
    with DevServer(choose(options.server)) as server:
        with Session(Address.parse(server.url)) as session:
            Migrations(session).apply()
            version = str(session.server)
        with Progress(
            *(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()),
            TimeElapsedColumn(),
            console=console,
        ) as progress:
            scale = Scale(Broker(OURS, server.url, server.pid), progress, options.rounds)
            flat = scale.backlogs([size for size in _BACKLOGS if size <= options.most])
            fleets = scale.fleets([count for count in _FLEETS if count <= options.fleet])
            memory = scale.delayed(options.delayed)
    console.print(_table(f"rows that wait ({version})", "claimed and acked/s", flat))
    console.print(_table("consumers", "claimed and acked/s, all together", fleets))
    console.print(_table("delayed tasks", "MiB of a worker of 2 processes", memory))
    return 0


def _table(title: str, figure: str, values: dict[int, float]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column(title, justify="right")
    table.add_column(figure, justify="right")
    for size, value in values.items():
        table.add_row(f"{size:,}", f"{value:,.0f}")
    return table


class Scale:
    """The three measurements.

    Args:
        broker: Ours.
        progress: Where they are shown.
        rounds: Of so many the median counts.
    """

    def __init__(self, broker: Broker, progress: Progress, rounds: int) -> None:
        self._broker = broker
        self._progress = progress
        self._rounds = rounds
        self._address = Address.parse(broker.url)

    def backlogs(self, sizes: Sequence[int]) -> dict[int, float]:
        """Messages a second that one consumer with a prefetch of 64 claims and acks."""
        step = self._step("backlogs", len(sizes))
        rates = {}
        self._publish()
        for size in sizes:
            self._grow(size)
            part = min(_CONSUMED, size // (self._rounds + 1))
            found = []
            for _ in range(self._rounds):
                found.append(consume(self._broker, _QUEUE, part))
                self._grow(size)
            rates[size] = median(found)
            step()
        self._empty()
        return rates

    def fleets(self, counts: Sequence[int]) -> dict[int, float]:
        """Messages a second that so many consumers claim and ack, each in its own process."""
        step = self._step("fleets", len(counts))
        rates = {}
        for count in counts:
            self._publish()
            self._grow(_FLEET_BACKLOG)
            rates[count] = self._fleet(count)
            self._empty()
            step()
        return rates

    def _fleet(self, count: int) -> float:
        with tempfile.TemporaryDirectory(prefix="scale-") as folder:
            programs = Programs(Path(folder), {"BROKER_URL": self._broker.url})
            at = str(time.monotonic() + 2 + 0.5 * count)
            with programs:
                fleet = [
                    programs.start(
                        f"consumer-{number}", "benchmarks.broker.consumer", at, str(_FLEET_SECONDS)
                    )
                    for number in range(count)
                ]
                for consumer in fleet:
                    consumer.wait(_PATIENCE)
                # what a consumer has to complain of comes before its figure
                for line in (line for one in fleet for line in one.log.splitlines()[:-1]):
                    self._progress.console.print(f"[yellow]{escape(line)}", soft_wrap=True)
                return sum(float(one.log.splitlines()[-1]) for one in fleet)

    def delayed(self, count: int) -> dict[int, float]:
        """The memory of a worker, with none and with so many tasks that are due in an hour."""
        step = self._step("delayed", 2)
        app = Celery("scale", broker=self._broker.url)
        memory = {}
        with tempfile.TemporaryDirectory(prefix="scale-") as folder:
            environment = {"BROKER_URL": self._broker.url, "NOTES": folder}
            with Programs(Path(folder), environment) as programs:
                worker = programs.start(
                    "worker",
                    *("celery", "-A", "benchmarks.broker.app", "worker", "--concurrency=2"),
                    "--loglevel=INFO",
                )
                programs.until(lambda: " ready." in worker.log, "the worker is ready", _PATIENCE)
                time.sleep(_SETTLED)
                memory[0] = _mebibytes(worker.pid)
                step()
                app.send_task("benchmarks.broker.app.note", (1,), countdown=3600)
                self._grow(count)
                time.sleep(_SETTLED)
                memory[count] = _mebibytes(worker.pid)
                step()
        self._empty()
        return memory

    def _step(self, title: str, parts: int) -> Callable[[], object]:
        task = self._progress.add_task(title, total=parts)
        return lambda: self._progress.advance(task)

    def _publish(self) -> None:
        with Connection(self._broker.url) as connection:
            _QUEUE(connection.default_channel).declare()
            connection.Producer().publish(_MESSAGE, exchange="", routing_key="scale")

    def _grow(self, size: int) -> None:
        """Copy rows until there are so many."""
        with Session(self._address) as session:
            count = int(session.value("SELECT COUNT(*) FROM jobs"))
            while count < size:
                count += session.execute(
                    f"INSERT INTO jobs ({_COLUMNS}) SELECT {_COLUMNS} FROM jobs LIMIT %s",  # noqa: S608 - names of columns
                    (min(_BATCH, size - count),),
                )

    def _empty(self) -> None:
        with Session(self._address) as session:
            session.execute("TRUNCATE TABLE jobs")


def _mebibytes(pid: int) -> float:
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return float(sum(one.memory_info().rss for one in family)) / 2**20


if __name__ == "__main__":
    sys.exit(main())
