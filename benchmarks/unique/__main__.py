"""``python -m benchmarks.unique``: many processes send the same unique tasks at once.

Exit with 0 when each key has one row, every caller has the same id for it, and then one run.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.programs import Programs
from celery_mysqllock.jobs import Migrations
from celery_mysqllock.mysql import Address, Session
from devserver import DevServer
from devserver.choice import choose

if TYPE_CHECKING:
    from collections.abc import Sequence

_PATIENCE = 600.0  # seconds for all of them to start, to send, and for the jobs to run


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it as the command line says; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.unique", description=__doc__)
    parser.add_argument("--processes", type=int, default=64, help="callers (64)")
    parser.add_argument("--keys", type=int, default=1_000, help="unique tasks (1000)")
    parser.add_argument("--server", help="mariadb, mysql, or a release: mariadb-11.8")
    options = parser.parse_args(arguments)
    console = Console()
    with (
        DevServer(choose(options.server)) as server,
        Session(Address.parse(server.url)) as session,
        tempfile.TemporaryDirectory(prefix="unique-") as folder,
        Programs(Path(folder), {"UNIQUE_URL": server.url}) as programs,
    ):
        Migrations(session).apply()
        session.execute("CREATE TABLE runs (task_id VARCHAR(255), number INT)")
        callers = Callers(programs, options.processes, options.keys)
        with console.status("callers start"):
            callers.start()
        with console.status("callers send"):
            took = callers.send()
        jobs = session.query("SELECT task_id FROM jobs")
        with console.status("the jobs run"):
            runs = _run_all(programs, session)
        return 0 if _report(console, str(session.server), callers, took, jobs, runs) else 1


class Callers:
    """The processes that send.

    Args:
        programs: Where they are started.
        processes: How many.
        keys: How many tasks each of them sends.
    """

    def __init__(self, programs: Programs, processes: int, keys: int) -> None:
        self._programs = programs
        self.names = [f"caller-{number}" for number in range(processes)]
        self.keys = keys

    def start(self) -> None:
        """Start them and wait until all are connected."""
        folder = self._programs.folder
        for name in self.names:
            arguments = ("benchmarks.unique.caller", str(self.keys), str(folder))
            self._programs.start(name, *arguments, CALLER=name)
        self._await("ready", "all callers are connected")

    def send(self) -> float:
        """Let them all send at once; return how many seconds it took."""
        began = time.monotonic()
        (self._programs.folder / "go").touch()
        self._await("json", "all callers have sent")
        return time.monotonic() - began

    def answers(self) -> list[dict[str, Any]]:
        """What each has noted."""
        folder = self._programs.folder
        return [json.loads((folder / f"{name}.json").read_text()) for name in self.names]

    def _await(self, suffix: str, what: str) -> None:
        folder, count = self._programs.folder, len(self.names)
        self._programs.until(
            lambda: len(list(folder.glob(f"*.{suffix}"))) == count, what, _PATIENCE
        )


def _run_all(programs: Programs, session: Session) -> list[tuple[str, int]]:
    """Let a worker run the jobs, and return what has run."""
    programs.start("worker", "celery", "-A", "benchmarks.unique.app", "worker", "--concurrency=2")
    count = "SELECT COUNT(*) FROM jobs"
    programs.until(lambda: session.value(count) == 0, "the jobs have run", _PATIENCE)
    return [
        (task_id, number) for task_id, number in session.query("SELECT task_id, number FROM runs")
    ]


def _report(  # noqa: PLR0913, PLR0917 - each is a part of the table
    console: Console,
    version: str,
    callers: Callers,
    took: float,
    jobs: list[tuple[Any, ...]],
    runs: list[tuple[str, int]],
) -> bool:
    """Print what happened; return whether it is as promised."""
    answers = callers.answers()
    by_key = {
        number: {answer["ids"][str(number)] for answer in answers} for number in range(callers.keys)
    }
    agreed = sum(len(ids) == 1 for ids in by_key.values())
    stored = {row[0] for row in jobs}
    known = sum(ids == ids & stored for ids in by_key.values())
    calls = len(answers) * callers.keys
    cuts = quantiles([one for answer in answers for one in answer["seconds"]], n=100)
    is_right = (
        (agreed, known, len(jobs), len(runs)) == (callers.keys,) * 4
        and {task_id for task_id, _ in runs} == stored
    )  # fmt: skip
    table = Table(title=f"unique on {version}", box=box.SIMPLE_HEAD, show_header=False)
    for what, figure in (
        ("processes", len(answers)),
        ("keys", callers.keys),
        ("calls", calls),
        ("[bold]rows", len(jobs)),
        ("[bold]keys for which all callers have the same id", agreed),
        ("[bold]keys whose id is in the table", known),
        ("[bold]runs", len(runs)),
        ("calls/s, all together", f"{calls / took:.0f}"),
        ("a call, p50 and p99, ms", f"{cuts[49] * 1000:.1f} and {cuts[98] * 1000:.1f}"),
        ("verdict", "[green]ok" if is_right else "[red]wrong"),
    ):
        table.add_row(what, str(figure))
    console.print(table)
    return is_right


if __name__ == "__main__":
    sys.exit(main())
