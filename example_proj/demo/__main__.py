"""``python -m example_proj.demo``: play all scenes and exit with 0 when each figure is right."""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from celery_mysqllock import MySQLLockError
from devserver import private_server
from example_proj.app import app
from example_proj.demo import scenes
from example_proj.demo.ledger import Ledger
from example_proj.demo.programs import DemoFailed, Programs
from example_proj.demo.progress import Progress
from example_proj.demo.report import report
from example_proj.demo.stage import Stage
from example_proj.demo.stopping import Stopped, raise_on_signals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from example_proj.demo.figures import Figures

_FEWEST = 40


def main() -> int:
    """Play the demo; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m example_proj.demo",
        description="Show celery-mysqllock at work on a private server. MYSQLLOCK_URL names a "
        "server to use instead of a new one.",
    )
    parser.add_argument("--jobs", type=int, default=500, help="jobs in scene b (default 500)")
    jobs = parser.parse_args().jobs
    if jobs < _FEWEST:
        parser.error(f"--jobs must be {_FEWEST} or more, so that two workers can share them.")
    console = Console()
    raise_on_signals()
    try:
        return play(console, jobs)
    except Stopped as stopped:
        console.print(f"Stopped by {stopped}; nothing is left running.")
        return 128 + stopped.number
    except (DemoFailed, MySQLLockError) as error:
        # soft_wrap: the lines of a log stay as they are
        console.print(f"[red]The demo failed.[/] {escape(str(error))}", soft_wrap=True)
        return 1


def play(console: Console, jobs: int) -> int:
    """Play all scenes on a database of their own and report; return 0 when all is right."""
    began = time.monotonic()
    with private_server() as server:
        url = server.create_database()
        for name in [name for name in os.environ if name.startswith("CELERY_BROKER_")]:
            del os.environ[name]  # Celery would use it in place of the demo's database
        app.conf.broker_url = url
        environment = {**os.environ, "MYSQLLOCK_URL": url}
        with Programs(environment) as programs, Progress(console) as progress:
            ledger = Ledger(url)
            stage = Stage(url, ledger, programs, progress)
            stage.prepare()
            played = [scenes.two_processes(stage)]
            stage.start_workers()
            played.append(scenes.two_workers(stage, jobs))
            played.append(scenes.one_at_a_time(stage))
            played.append(scenes.killed_worker(stage))
            wrong = [problem for figures in played for problem in figures.wrong()]
            wrong += late_runs(ledger, played)
        kind = {"mariadb": "MariaDB", "mysql": "MySQL"}[server.kind]
        title = f"{kind} {ledger.version()}, {time.monotonic() - began:.1f} s"
    report(console, title, played, wrong)
    return 1 if wrong else 0


def late_runs(ledger: Ledger, played: Sequence[Figures]) -> list[str]:
    """Tell of runs that came after their scene had been counted."""
    counted = {
        figures.scene: (figures.run or 0) + (figures.duplicates or 0)
        for figures in played
        if figures.jobs_in
    }
    return [
        f"{scene}: more runs came after the count."
        for scene, runs in counted.items()
        if ledger.count(scene) > runs
    ]


if __name__ == "__main__":
    sys.exit(main())
