"""``metrics``: the fleet and its server for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from celery_mysqllock.cli.exposition import CONTENT_TYPE, exposition
from celery_mysqllock.cli.overview import Watch
from celery_mysqllock.cli.serving import Handler, host_option, serve
from celery_mysqllock.exceptions import MySQLLockError

if TYPE_CHECKING:
    from celery_mysqllock.cli.place import Place


@click.command()
@host_option
@click.option("--port", type=click.IntRange(0, 65535), default=9140, show_default=True)
@click.option("--once", is_flag=True, help="Print the metrics and end, for a textfile collector.")
@click.pass_obj
def metrics(place: Place, *, host: str, port: int, once: bool) -> None:
    """Serve metrics for Prometheus at /metrics. They are read when they are asked for.

    While the server cannot be read, mysqllock_up is 0 and the others are missing. --once then
    prints that, says why, and its exit code is 1.
    """
    # a gauge that stops at a limit would be a lie
    watch = Watch(place, rows=0, count_limit=None)
    if once:
        _print(watch)
        return
    place.addresses  # noqa: B018 - raises now what is wrong with the options
    serve(_handler(watch), host, port, "mysqllock metrics")
    watch.close()


def _print(watch: Watch) -> None:
    try:
        overview = watch.read()
    except MySQLLockError:
        click.echo(exposition(None), nl=False)
        raise
    click.echo(exposition(overview), nl=False)
    watch.close()


def _handler(watch: Watch) -> type[Handler]:
    class MetricsHandler(Handler):
        """Answers a scrape."""

        def do_GET(self) -> None:  # noqa: N802 - http.server's name
            """Send the metrics, or say where they are."""
            if urlsplit(self.path).path != "/metrics":
                self.answer(404, "The metrics are at /metrics.\n", "text/plain; charset=utf-8")
                return
            try:
                overview = watch.read()
            except MySQLLockError as error:
                click.echo(f"Error: {' '.join(str(error).split())}", err=True)
                overview = None
            self.answer(200, exposition(overview), CONTENT_TYPE)

        do_HEAD = do_GET  # noqa: N815 - http.server's name

    return MetricsHandler
