"""``python -m benchmarks.fuzz``: throw rows at three workers; exit with 0 when all is answered.

Each row has to have run, or be dead with a reason, or stay where the documentation says that rows
stay. No worker may die, and each has to run a fresh task at the end.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celery import Celery
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.fuzz.rows import Row, Rows
from benchmarks.notes import Reader
from benchmarks.programs import Program, ProgramFailed, Programs
from celery_mysqllock.jobs import Migrations
from celery_mysqllock.mysql import Address, Session
from devserver import DevServer
from devserver.choice import choose

if TYPE_CHECKING:
    from collections.abc import Sequence

_BATCH = 200
# Rows that may wait for workers before more are inserted.
_BACKLOG = 2_000
_CONTROL = 20  # messages to control queues a batch of rows, at most
_PATIENCE = 120.0  # seconds in which the rows that are left have to become fewer
_SHOWN = 5
_SCHEDULED, _DEAD, _WAITING = 2, 3, 4
_FAR = 2030  # what is due from this year on is not due in this run
# Rows that still have something to come. Everything else stays, as the documentation says.
_PENDING = """
SELECT COUNT(*) FROM jobs
WHERE (queue IN %(queues)s AND job_status = 0)
   OR (job_status = 2 AND due_at < '2030-01-01')
   OR (job_status = 1 AND owner IN (SELECT identity FROM jobs_consumers WHERE identity <> ''))
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it as the command line says; return the exit code."""
    options = options_of(arguments)
    console = Console()
    console.print(f"fuzz with --seed {options.seed} --rows {options.rows}", highlight=False)
    notes = Path(tempfile.mkdtemp(prefix="fuzz-"))
    try:
        with DevServer(choose(options.server)) as server:
            return 0 if Fuzz(console, options, server.url, notes).run() else 1
    except ProgramFailed as error:
        console.print(escape(str(error)))
        return 1
    finally:
        if options.keep:
            console.print(f"Logs and notes are in {notes}")
        else:
            shutil.rmtree(notes, ignore_errors=True)


def options_of(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """What the command line asks for; a random seed where it names none."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000, help="rows (200000)")
    parser.add_argument("--seed", type=int, default=None, help="of the rows; printed when random")
    parser.add_argument(
        "--pools", default="prefork,solo,threads", help="a worker of each (prefork,solo,threads)"
    )
    parser.add_argument("--server", help="mariadb, mysql, or a release: mariadb-11.8")
    parser.add_argument("--keep", action="store_true", help="keep logs and notes")
    options = parser.parse_args(arguments)
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(2**32)
    return options


class Fuzz:
    """One run.

    Args:
        console: Where progress and outcome are shown.
        options: Of the command line.
        url: An empty database.
        notes: Where logs and notes go.
    """

    def __init__(
        self, console: Console, options: argparse.Namespace, url: str, notes: Path
    ) -> None:
        self._console = console
        self._options = options
        self._url = url
        self._notes = notes
        self._pools: list[str] = options.pools.split(",")
        self._workers: dict[str, Program] = {}
        self._rows: dict[int, Row] = {}
        self._seen: dict[str, str] = {}
        self._control = 0
        self._reader = Reader(notes)

    def run(self) -> bool:
        """Do it; return whether each row was answered."""
        environment = {
            "BROKER_URL": self._url,
            "BROKER_OPTIONS": json.dumps(
                {"polling_interval": 0.2, "recovery_grace": 1.0, "unknown_task_grace": 1}
            ),
            "NOTES": str(self._notes),
        }
        began = time.monotonic()
        with (
            Session(Address.parse(self._url)) as session,
            Programs(self._notes, environment) as programs,
        ):
            Migrations(session).apply()
            # what tasks send gets ids behind those of the rows
            session.execute("ALTER TABLE jobs AUTO_INCREMENT = 1000000000")
            # as a program may that cares for nothing
            session.execute("SET SESSION sql_mode = ''")
            self._start(programs)
            with self._progress() as progress:
                self._throw(session, progress)
                self._drain(session, progress)
            self._greet(session)
            return self._report(session, time.monotonic() - began)

    def _progress(self) -> Progress:
        return Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
        )

    def _start(self, programs: Programs) -> None:
        for pool in self._pools:
            self._workers[pool] = programs.start(
                f"worker-{pool}",
                *("celery", "-A", "benchmarks.fuzz.app", "worker", "--pool", pool, "-c2"),
                *("-l", "ERROR", "-n", f"{pool}@fuzz", "-Q", f"celery,own-{pool}"),
                AUTHOR=pool,
            )

    def _queues(self) -> list[str]:
        return ["celery", *(f"own-{pool}" for pool in self._pools)]

    # -- the rows ---------------------------------------------------------------------------------

    def _throw(self, session: Session, progress: Progress) -> None:
        rows, bar = (
            Rows(self._options.seed),
            progress.add_task("inserted", total=self._options.rows),
        )
        while len(self._rows) < self._options.rows:
            for _ in range(min(_BATCH, self._options.rows - len(self._rows))):
                row = rows.next()
                number = len(self._rows) + 1
                self._rows[number] = row
                self._insert(session, number, row)
            self._send_control(session, rows)
            progress.update(bar, completed=len(self._rows))
            deadline = time.monotonic() + _PATIENCE
            while self._pending(session) > _BACKLOG:
                self._check_workers()
                if time.monotonic() > deadline:
                    raise ProgramFailed("The workers take no rows any more.")
                time.sleep(0.2)
            self._check_workers()

    def _insert(self, session: Session, number: int, row: Row) -> None:
        columns = {"id": number, "message": row.message, **row.columns}
        names = ", ".join(columns)
        values = ", ".join(f"%({name})s" for name in columns)
        session.execute(f"INSERT INTO jobs ({names}) VALUES ({values})", columns)  # noqa: S608

    def _send_control(self, session: Session, rows: Rows) -> None:
        queues = [
            name
            for (name,) in session.query(
                "SELECT queue FROM jobs_ephemeral_queues WHERE queue LIKE '%%pidbox'"
            )
        ]
        for _ in range(_CONTROL if queues else 0):
            self._control += 1
            session.execute(
                "INSERT INTO jobs_ephemeral_messages (queue, message, claim_order)"
                " VALUES (%s, %s, 9)",
                (queues[self._control % len(queues)], rows.ephemeral()),
            )

    def _drain(self, session: Session, progress: Progress) -> None:
        """Wait until nothing is left that anybody could take."""
        left = self._pending(session)
        bar = progress.add_task("left", total=left)
        deadline = time.monotonic() + _PATIENCE
        while left:
            time.sleep(0.5)
            self._check_workers()
            now = self._pending(session)
            if now < left:
                deadline = time.monotonic() + _PATIENCE
            left = now
            progress.update(bar, completed=max(0, (progress.tasks[-1].total or 0) - left))
            if time.monotonic() > deadline:
                self._console.print(f"{left} rows are stuck")
                return

    def _pending(self, session: Session) -> int:
        return int(session.query(_PENDING, {"queues": self._queues()})[0][0])

    def _check_workers(self) -> None:
        for pool, worker in self._workers.items():
            if worker.exit_code is not None:
                raise ProgramFailed(
                    f"The worker of pool {pool} has ended with {worker.exit_code}. "
                    f"--seed {self._options.seed}, {len(self._rows)} rows\n{worker.tail()}"
                )

    def _greet(self, session: Session) -> None:
        """Have each worker run a fresh task of its own queue."""
        waited = set()
        for pool in self._pools:
            waited.add(f"fresh-{pool}")
            session.execute(
                "INSERT INTO jobs (message, queue, task_id) VALUES (%s, %s, %s)",
                ('{"task": "ok"}', f"own-{pool}", f"fresh-{pool}"),
            )
        deadline = time.monotonic() + _PATIENCE
        while waited - self._news().keys():
            self._check_workers()
            if time.monotonic() > deadline:
                deaf = sorted(waited - self._news().keys())
                raise ProgramFailed(f"Deaf, of the fresh tasks: {', '.join(deaf)}")
            time.sleep(0.1)
        # and answer to remote control, whose queues had their part
        inspect = Celery("fuzz", broker=self._url).control.inspect(timeout=5)
        while len(inspect.ping() or ()) < len(self._pools):
            if time.monotonic() > deadline:
                raise ProgramFailed("Not every worker answers to remote control.")

    def _news(self) -> dict[str, str]:
        """What has become of tasks so far, by id."""
        for note in self._reader.news():
            self._seen[note["id"]] = note["kind"]
        return self._seen

    # -- the outcome ------------------------------------------------------------------------------

    def _report(self, session: Session, seconds: float) -> bool:
        left = {
            row[0]: row[1:]
            for row in session.query(
                "SELECT id, job_status, reason, queue, owner, due_at,"
                " (SELECT name FROM jobs_consumers WHERE identity = owner) FROM jobs"
            )
        }
        self._news()
        counts: dict[str, int] = {}
        wrong: list[str] = []
        for number, row in self._rows.items():
            outcome = self._outcome(row, left.get(number))
            counts[outcome] = counts.get(outcome, 0) + 1
            if outcome.isupper():
                wrong.append(
                    f"{outcome}: {number} {left.get(number)} {row.columns} {row.message[:600]}"
                )
        table = Table(
            title=f"fuzz on {session.server}, {seconds:.0f} s, seed {self._options.seed}",
            box=box.SIMPLE_HEAD,
            show_header=False,
        )
        table.add_row("rows", str(len(self._rows)))
        for outcome, count in sorted(counts.items()):
            table.add_row(outcome, str(count))
        table.add_row("control messages", str(self._control))
        table.add_row("workers that live and answer", ", ".join(self._pools))
        table.add_row("verdict", "[red]wrong" if wrong else "[green]ok")
        self._console.print(table)
        for line in wrong[:_SHOWN]:
            self._console.print(escape(ascii(line)))
        return not wrong

    def _outcome(self, row: Row, left: tuple[Any, ...] | None) -> str:
        """What has become of a row; in capitals what must not be."""
        if left is None:
            for one in row.ids:
                if one in self._seen:
                    return self._seen[one]
            return "GONE" if row.is_right or "expires_at" not in row.columns else "expired"
        status, reason, queue, owner, due_at, _ = left
        if status == _DEAD and (reason or row.columns.get("job_status") == _DEAD):
            return "dead"
        stays = {
            "a queue that nobody consumes": status == 0 and queue.rstrip(" ") not in self._queues(),
            "dequeued by nobody that has a name": status == 1 and not (owner or "").strip(),
            "not due": status == _SCHEDULED and (due_at is None or due_at.year >= _FAR),
            "waits for its turn": status == _WAITING,
            "a status that nobody knows": status not in range(_WAITING + 1),
        }
        return next((f"stays: {why}" for why, is_so in stays.items() if is_so), "STUCK")


if __name__ == "__main__":
    sys.exit(main())
