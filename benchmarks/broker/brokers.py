"""The brokers that are measured: ours and its peers, each private, fresh and durable."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import psutil
from redis import Redis

from benchmarks.broker.rabbitmq_server import rabbitmq_server
from benchmarks.redis_server import redis_server
from celery_mysqllock.jobs import Migrations
from celery_mysqllock.mysql import Address, Session
from devserver import DevServer
from devserver.choice import choose

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

OURS = "celery-mysqllock"
REDIS = "Redis"
RABBITMQ = "RabbitMQ"
SQLALCHEMY = "kombu sqlalchemy"


@dataclass
class Broker:
    """One broker.

    Attributes:
        name: What the tables call it.
        url: Its URL for Celery.
        pid: Its server's process.
        queries: Returns how many statements or commands it has served, None where it cannot tell.
        options: ``broker_transport_options``.
        pace: How much of each load it gets, 1 for all; less for who would take minutes.
    """

    name: str
    url: str
    pid: int
    queries: Callable[[], int] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    pace: float = 1.0

    def cpu_seconds(self) -> float:
        """The seconds of CPU that its server has used."""
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)


@contextmanager
def all_brokers(
    console: Console, kind: str | None, wanted: list[str]
) -> Iterator[tuple[str, list[Broker]]]:
    """Start the brokers; those that are missing are skipped with a line.

    Args:
        console: Where the line goes.
        kind: "mariadb", "mysql" or None for what is there.
        wanted: Their names.

    Yields:
        The version of the MySQL server, and the brokers, ours first.
    """
    with ExitStack() as stack:
        server = stack.enter_context(DevServer(choose(kind)))
        with Session(Address.parse(server.url)) as session:
            Migrations(session).apply()
            version = str(session.server)
        count = _questions(server.url)
        brokers = [Broker(OURS, server.url, server.pid, count)]
        if REDIS in wanted:
            try:
                url, pid = stack.enter_context(redis_server(durable=True))
                brokers.append(Broker(REDIS, url, pid, _commands(url)))
            except (FileNotFoundError, TimeoutError) as error:
                console.print(f"{REDIS} is skipped: {error}")
        if RABBITMQ in wanted:
            try:
                url, pid = stack.enter_context(rabbitmq_server())
                brokers.append(Broker(RABBITMQ, url, pid, None, {"confirm_publish": True}))
            except (FileNotFoundError, TimeoutError) as error:
                console.print(f"{RABBITMQ} is skipped: {error}")
        if SQLALCHEMY in wanted:
            if find_spec("sqlalchemy") is None:
                console.print(f"{SQLALCHEMY} is skipped: no sqlalchemy is installed")
            else:
                url = "sqla+mysql+pymysql" + server.create_database().removeprefix("mysql")
                brokers.append(Broker(SQLALCHEMY, url, server.pid, count, pace=0.1))
        yield version, brokers


def _questions(url: str) -> Callable[[], int]:
    session = Session(Address.parse(url)).open()
    return lambda: int(session.query("SHOW GLOBAL STATUS LIKE 'Questions'")[0][1])


def _commands(url: str) -> Callable[[], int]:
    client = Redis.from_url(url)

    def count() -> int:
        stats: Any = client.info("stats")
        return int(stats["total_commands_processed"])

    return count
