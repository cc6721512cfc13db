"""A fleet at work on a private server: workers, a producer, locks, dead jobs, a paused queue."""

from __future__ import annotations

import itertools
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmarks.pictures import shop
from celery_mysqllock.cli.deployment import Deployment
from celery_mysqllock.jobs import Control, JobTable, Migrations, NewJob
from celery_mysqllock.mysql import Address, Session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.programs import Program, Programs

_WORKERS = {
    "web-1": ("celery,emails,images", "4"),
    "web-2": ("celery,emails,images", "4"),
    "reports-1": ("reports", "6"),
}
_BACKLOG = 1200  # letters of the paused newsletter
_PACE = 0.05  # seconds between two rounds of the producer


@contextmanager
def busy_fleet(programs: Programs, url: str) -> Iterator[Deployment]:
    """A fleet that works for the block.

    Args:
        programs: Start the workers.
        url: An empty database of the private server.
    """
    shop.app.conf.broker_url = url
    with Session(Address.parse(url)) as session, Session(Address.parse(url)) as forgotten:
        Migrations(session).apply()
        Control(session).pause("newsletter")
        _fill(JobTable(session))
        forgotten.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
        workers = [_start(programs, *worker) for worker in _WORKERS.items()]
        programs.until(
            lambda: all(" ready." in worker.log for worker in workers), "workers are ready", 60
        )
        ended = threading.Event()
        producer = threading.Thread(target=_produce, args=(ended,))
        producer.start()
        try:
            yield Deployment(url=url)
        finally:
            ended.set()
            producer.join()


def _start(programs: Programs, name: str, work: tuple[str, str]) -> Program:
    queues, threads = work
    return programs.start(
        *(name, "celery", "-A", "benchmarks.pictures.shop", "worker", "--pool=threads"),
        *(f"--concurrency={threads}", f"--queues={queues}", f"--hostname=shop@{name}"),
        "--loglevel=INFO",
    )


def _fill(jobs: JobTable) -> None:
    for number in range(_BACKLOG):
        jobs.publisher.put(
            NewJob("newsletter", f'{{"task": "shop.newsletter.issue", "args": [{number}]}}')
        )
    jobs.publisher.put(NewJob("celery", '{"task": "shop.orders.chrage", "args": [4711]}'))
    jobs.publisher.put(NewJob("celery", "UPDATE accounts SET balance = 0"))


def _produce(ended: threading.Event) -> None:
    for account, part in itertools.product((7, 12, 31), ("sales", "stock")):
        shop.build.delay(account, part)
    for number in range(3):
        shop.build.apply_async((number, "week"), countdown=3600)
    for number in itertools.count():
        shop.send.delay(f"reader-{number}@example.com")
        if number % 5 == 0:
            shop.resize.delay(f"photo-{number}.jpg")
        if number % 80 == 0:
            shop.charge.delay(4700 + number)
        if ended.wait(_PACE):
            return
