"""What a real worker does: tasks a second, latency after a burst and at rest, and idle load."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING

import psutil
from celery import Celery

from benchmarks.notes import Reader
from benchmarks.programs import Programs

if TYPE_CHECKING:
    from benchmarks.broker.brokers import Broker
    from benchmarks.programs import Program

_START = 60.0  # seconds for a worker's start
_DRAIN = 120.0  # seconds for all tasks
_PAUSE = 0.03  # seconds between two tasks of the latency's measurement
_REST = 3.0  # seconds until a worker is at rest
_WARM = 0.1  # the part of a burst that is not measured


@dataclass
class Worked:
    """What one worker did.

    Attributes:
        tasks: Tasks a second out of a full queue.
        after_burst: Milliseconds from each publish to the begin of its task, right after.
        at_rest: The same after some seconds of rest.
        queries: Statements a second while idle, None where the broker cannot tell.
        server_cpu: Percent of one core that the server used while idle.
        worker_cpu: The same of the worker.
    """

    tasks: float = 0.0
    after_burst: list[float] = field(default_factory=list)
    at_rest: list[float] = field(default_factory=list)
    queries: float | None = None
    server_cpu: float = 0.0
    worker_cpu: float = 0.0


def p50(values: list[float]) -> float:
    """The median."""
    return median(values)


def p99(values: list[float]) -> float:
    """What 99 percent are not above."""
    return quantiles(values, n=100)[98]


def work(broker: Broker, tasks: int, probes: int, idle: float) -> Worked:
    """Start a worker of two processes on a queue with so many tasks, and measure it.

    Args:
        broker: The broker.
        tasks: How many.
        probes: How many single tasks measure each latency.
        idle: Seconds for which the idle load is measured.
    """
    tasks, probes = round(tasks * broker.pace), max(10, round(probes * broker.pace))
    app = Celery("sender", broker=broker.url)
    app.conf.broker_transport_options = broker.options
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        environment = {
            "BROKER_URL": broker.url,
            "BROKER_OPTIONS": json.dumps(broker.options),
            "NOTES": name,
        }
        with Programs(folder, environment) as programs:
            return _Round(app, programs, folder, broker).run(tasks, probes, idle)


class _Round:
    def __init__(self, app: Celery, programs: Programs, folder: Path, broker: Broker) -> None:
        self._app = app
        self._programs = programs
        self._reader = Reader(folder)
        self._broker = broker
        self._ran: dict[int, float] = {}
        self._sent: dict[int, float] = {}

    def run(self, tasks: int, probes: int, idle: float) -> Worked:
        worked = Worked()
        for _ in range(tasks):
            self._send()
        worker = self._programs.start(
            "worker",
            *("celery", "-A", "benchmarks.broker.app", "worker", "--concurrency=2"),
            *("--loglevel=WARNING", "-n", "bench@bench"),
        )
        self._await(tasks, _START + _DRAIN)
        moments = sorted(self._ran.values())
        warm = round(tasks * _WARM)
        worked.tasks = (tasks - warm) / (moments[-1] - moments[warm])
        worked.after_burst = self._latencies(probes)
        time.sleep(_REST)
        worked.at_rest = self._latencies(probes)
        time.sleep(_REST)
        self._idle(worker, idle, worked)
        worker.stop()
        worker.wait(_START)
        return worked

    def _send(self) -> int:
        number = len(self._sent)
        self._sent[number] = time.monotonic()
        self._app.send_task("benchmarks.broker.app.note", (number,))
        return number

    def _await(self, count: int, seconds: float) -> None:
        def arrived() -> bool:
            self._ran.update({note["number"]: note["at"] for note in self._reader.news()})
            return len(self._ran) >= count

        self._programs.until(arrived, f"{count} tasks have run", seconds)

    def _latencies(self, probes: int) -> list[float]:
        numbers = []
        for _ in range(probes):
            numbers.append(self._send())
            time.sleep(_PAUSE)
        self._await(len(self._sent), _DRAIN)
        return [(self._ran[number] - self._sent[number]) * 1000 for number in numbers]

    def _idle(self, worker: Program, seconds: float, worked: Worked) -> None:
        queries = self._broker.queries
        family = [psutil.Process(worker.pid), *psutil.Process(worker.pid).children(recursive=True)]
        count = queries() if queries else 0
        server, own = self._broker.cpu_seconds(), _cpu_seconds(family)
        time.sleep(seconds)
        worked.server_cpu = (self._broker.cpu_seconds() - server) / seconds * 100
        worked.worker_cpu = (_cpu_seconds(family) - own) / seconds * 100
        if queries:
            worked.queries = (queries() - count) / seconds


def _cpu_seconds(family: list[psutil.Process]) -> float:
    times = [process.cpu_times() for process in family]
    return float(sum(one.user + one.system for one in times))
