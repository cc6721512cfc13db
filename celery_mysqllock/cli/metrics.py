"""``metrics``: the fleet and its server for Prometheus."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from celery_mysqllock.cli.exposition import CONTENT_TYPE, exposition
from celery_mysqllock.cli.idle import InUse
from celery_mysqllock.cli.overview import Watch
from celery_mysqllock.cli.selecting import Duration
from celery_mysqllock.cli.serving import Handler, host_option, serve
from celery_mysqllock.exceptions import MySQLLockError

if TYPE_CHECKING:
    from celery_mysqllock.cli.overview import Overview
    from celery_mysqllock.cli.place import Place


@click.command()
@host_option
@click.option("--port", type=click.IntRange(0, 65535), default=9140, show_default=True)
@click.option("--once", is_flag=True, help="Print the metrics and end, for a textfile collector.")
@click.option(
    "--idle-after",
    type=Duration(),
    default="1d",
    show_default=True,
    help="Leave out a queue that has been empty and without consumers for so long, as far as this "
    "process has seen.",
)
@click.pass_obj
def metrics(place: Place, *, host: str, port: int, once: bool, idle_after: float) -> None:
    """Serve metrics for Prometheus at /metrics. They are read when they are asked for.

    While the server cannot be read, mysqllock_up is 0 and the others are missing. --once then
    prints that, says why, and its exit code is 1.
    """
    # a gauge that stops at a limit would be a lie
    watch, in_use = Watch(place, rows=0, count_limit=None), InUse(idle_after)
    if once:
        _print(watch, in_use)
        return
    place.addresses  # noqa: B018 - raises now what is wrong with the options
    serve(_handler(watch, in_use), host, port, "mysqllock metrics")
    watch.close()


def _print(watch: Watch, in_use: InUse) -> None:
    try:
        overview = watch.read()
    except MySQLLockError:
        click.echo(exposition(None), nl=False)
        raise
    click.echo(_exposed(overview, in_use), nl=False)
    watch.close()


def _exposed(overview: Overview, in_use: InUse) -> str:
    return exposition(replace(overview, queues=in_use.among(overview)))


def _handler(watch: Watch, in_use: InUse) -> type[Handler]:
    class MetricsHandler(Handler):
        """Answers a scrape."""

        def do_GET(self) -> None:  # noqa: N802 - http.server's name
            """Send the metrics, or say where they are."""
            if urlsplit(self.path).path != "/metrics":
                self.answer(404, "The metrics are at /metrics.\n", "text/plain; charset=utf-8")
                return
            try:
                text = _exposed(watch.read(), in_use)
            except MySQLLockError as error:
                click.echo(f"Error: {' '.join(str(error).split())}", err=True)
                text = exposition(None)
            self.answer(200, text, CONTENT_TYPE)

        do_HEAD = do_GET  # noqa: N815 - http.server's name

    return MetricsHandler
