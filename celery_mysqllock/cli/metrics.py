"""``metrics``: the fleet and its server for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from celery_mysqllock.cli.idle import InUse
from celery_mysqllock.cli.overview import Watch
from celery_mysqllock.cli.selecting import Duration
from celery_mysqllock.cli.serving import (
    Named,
    host_option,
    missing_extra,
    names_option,
    plain,
    serve,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from celery_mysqllock.cli.deployment import Deployment
    from celery_mysqllock.cli.overview import Overview
    from celery_mysqllock.exceptions import MySQLLockError


@click.command()
@host_option
@click.option("--port", type=click.IntRange(0, 65535), default=9140, show_default=True)
@names_option
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
def metrics(  # noqa: PLR0913 - its options
    deployment: Deployment,
    *,
    host: str,
    port: int,
    names: tuple[str, ...],
    once: bool,
    idle_after: float,
) -> None:
    """Serve metrics for Prometheus at /metrics. They are read when they are asked for.

    While the server cannot be read, mysqllock_up is 0 and the others are missing. --once then
    prints that, says why, and its exit code is 1. It needs the packages of
    celery-mysqllock[metrics].
    """
    try:
        import waitress  # noqa: F401, PLC0415 - an extra
        from prometheus_client import (  # noqa: PLC0415 - an extra
            CollectorRegistry,
            generate_latest,
            make_wsgi_app,
        )

        from celery_mysqllock.cli.exposition import FleetCollector  # noqa: PLC0415 - needs it
    except ImportError as error:
        raise missing_extra("metrics", "metrics") from error
    # a gauge that stops at a limit would be a lie
    watch, in_use = Watch(deployment, rows=0, count_limit=None), InUse(idle_after)
    errors: list[MySQLLockError] = []

    def read() -> Overview:
        return in_use.of(watch.read())

    registry = CollectorRegistry()
    if once:
        registry.register(FleetCollector(read, errors.append))
        click.echo(generate_latest(registry).decode(), nl=False)
        if errors:
            raise errors[0]
    else:
        deployment.addresses  # noqa: B018 - raises now what is wrong with the options
        registry.register(FleetCollector(read, _tell))
        serve(
            Named(_at_metrics(make_wsgi_app(registry)), host, names),
            *(host, port, "mysqllock metrics"),
        )
    watch.close()


def _tell(error: MySQLLockError) -> None:
    click.echo(f"Error: {' '.join(str(error).split())}", err=True)


def _at_metrics(application: WSGIApplication) -> WSGIApplication:
    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO") != "/metrics":
            return plain(start_response, "404 Not Found", "The metrics are at /metrics.\n")
        if environ.get("REQUEST_METHOD") != "HEAD":
            return application(environ, start_response)
        list(application({**environ, "REQUEST_METHOD": "GET"}, start_response))
        return []

    return answer
