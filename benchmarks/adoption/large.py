"""``python -m benchmarks.adoption.large``: the original table with ten million rows that wait."""

from __future__ import annotations

import argparse
import sys
import threading
import time
from statistics import median
from typing import TYPE_CHECKING

from kombu import Exchange, Queue
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.broker.brokers import OURS, Broker
from benchmarks.broker.rates import consume
from celery_mysqllock.jobs import JobTable, Migrations
from celery_mysqllock.mysql import Address, Session
from devserver import DevServer
from devserver.choice import choose

if TYPE_CHECKING:
    from collections.abc import Sequence

_ORIGINALS = {
    "varchar": "message VARCHAR(255) NOT NULL",
    "longtext": "message LONGTEXT NOT NULL",
}
_MESSAGE = f"a line of a hundred characters, as a program may write it: {'x' * 40}"
_QUEUE = Queue("celery", Exchange(""), "celery", durable=True)
_BATCH = 250_000  # rows that one INSERT adds
_CONSUMED = 3000  # messages of one measurement
_ROUNDS = 3
# A server for ten million rows has more memory than one for tests.
_OPTIONS = ("--innodb-buffer-pool-size=4G",)
_REDO = {"MariaDB": "innodb_log_file_size", "MySQL": "innodb_redo_log_capacity"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.adoption.large", description=__doc__
    )
    parser.add_argument("--rows", type=int, default=10_000_000, help="rows (10000000)")
    parser.add_argument(
        "--message", choices=_ORIGINALS, default="varchar", help="the type of the message (varchar)"
    )
    parser.add_argument("--server", help="mariadb, mysql, or a release: mariadb-11.8")
    options = parser.parse_args(arguments)
    console = Console()
    with (
        DevServer(choose(options.server), _OPTIONS) as server,
        Session(Address.parse(server.url)) as session,
        session.extend_timeout(3600),
    ):
        session.execute(f"SET GLOBAL {_REDO[session.server.kind]} = {2**31}")
        with console.status("filling the table"):
            _fill(session, options.rows, _ORIGINALS[options.message])
        with console.status("migrating"):
            migrating, inserts = _migrate(session, server.url)
        with console.status("counting and claiming"):
            counting, count = _count(session)
            viewing = _view(session)
            broker = Broker(OURS, server.url, server.pid, options={"text_task": "bench.note"})
            rate = median(consume(broker, _QUEUE, _CONSUMED) for _ in range(_ROUNDS))
        console.print(
            _table(
                f"{count:,} rows that wait ({session.server}, {options.message})",
                {
                    "migrate": f"{migrating:.1f} s",
                    "  INSERTs meanwhile": f"{len(inserts):,}",
                    "  the longest of them": f"{max(inserts, default=0.0):.2f} s",
                    "  their median": f"{median(inserts or [0.0]) * 1000:.1f} ms",
                    "count of a queue": f"{counting:.2f} s",
                    "view jobs_status": f"{viewing:.2f} s",
                    "claimed and acked by one consumer": f"{rate:,.0f}/s",
                },
            )
        )
    return 0


def _fill(session: Session, rows: int, message: str) -> None:
    session.execute(
        "CREATE TABLE jobs ("
        f"id INT AUTO_INCREMENT PRIMARY KEY, {message}, job_status INT DEFAULT 0)"
    )
    session.execute("INSERT INTO jobs (message) VALUES (%s)", (_MESSAGE,))
    count = 1
    while count < rows:
        count += session.execute(
            "INSERT INTO jobs (message) SELECT message FROM jobs LIMIT %s",
            (min(_BATCH, rows - count),),
        )


def _migrate(session: Session, url: str) -> tuple[float, list[float]]:
    """Migrate while a program INSERTs; seconds that it took, and those of each INSERT."""
    inserts: list[float] = []
    is_over = threading.Event()

    def insert() -> None:
        with Session(Address.parse(url), read_timeout=3600) as other:
            while not is_over.wait(0.01):
                began = time.monotonic()
                other.execute("INSERT INTO jobs (message) VALUES (%s)", (_MESSAGE,))
                inserts.append(time.monotonic() - began)

    program = threading.Thread(target=insert)
    program.start()
    try:
        began = time.monotonic()
        Migrations(session).apply()
        return time.monotonic() - began, inserts
    finally:
        is_over.set()
        program.join()


def _count(session: Session) -> tuple[float, int]:
    began = time.monotonic()
    count = JobTable(session).maintenance.count_ready("celery")
    return time.monotonic() - began, count


def _view(session: Session) -> float:
    began = time.monotonic()
    session.query("SELECT * FROM jobs_status")
    return time.monotonic() - began


def _table(title: str, figures: dict[str, str]) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right")
    for what, figure in figures.items():
        table.add_row(what, figure)
    return table


if __name__ == "__main__":
    sys.exit(main())
