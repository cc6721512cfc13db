"""``metrics``: an exporter of the fleet's metrics for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from celery_mysqllock.cli.parameters import Duration
from celery_mysqllock.cli.serving import (
    HostCheck,
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
    help="Leave out a queue that has been empty and without consumers for this time, as far as "
    "this process has seen.",
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
    """Serve metrics for Prometheus at /metrics. Each scrape reads the job table.

    While the server cannot be read, mysqllock_up is 0 and the others are missing. --once then
    prints that and the reason, and exits with 1. Needs the packages of celery-mysqllock[metrics].
    """
    try:
        import waitress  # noqa: F401, PLC0415 - an extra
        from prometheus_client import (  # noqa: PLC0415 - an extra
            CollectorRegistry,
            generate_latest,
            make_wsgi_app,
        )

        from celery_mysqllock.cli.collector import FleetCollector  # noqa: PLC0415 - needs it
    except ImportError as error:
        raise missing_extra("metrics", "metrics") from error
    errors: list[MySQLLockError] = []
    collector = FleetCollector(
        deployment, idle_after=idle_after, on_error=errors.append if once else _report
    )
    registry = CollectorRegistry()
    registry.register(collector)
    if once:
        click.echo(generate_latest(registry).decode(), nl=False)
        if errors:
            raise errors[0]
    else:
        deployment.addresses  # noqa: B018 - raises if an option is wrong
        serve(
            HostCheck(_at_metrics(make_wsgi_app(registry)), host, names),
            *(host, port, "mysqllock metrics"),
        )
    collector.close()


def _report(error: MySQLLockError) -> None:
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
