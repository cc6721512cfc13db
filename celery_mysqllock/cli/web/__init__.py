"""``web``: the fleet in a browser, with a search for jobs, and actions for holders of the token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from celery_mysqllock.cli.overview import OverviewReader
from celery_mysqllock.cli.serving import HostCheck, host_option, missing_extra, names_option, serve

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

    from celery_mysqllock.cli.deployment import Deployment

__all__ = ["web"]


@click.command()
@host_option
@click.option("--port", type=click.IntRange(0, 65535), default=9141, show_default=True)
@click.option(
    "--token",
    envvar="MYSQLLOCK_WEB_TOKEN",
    help="The secret that allows to retry, discard, pause and resume; better set in "
    "MYSQLLOCK_WEB_TOKEN, where no other user of this machine sees it.",
)
@names_option
@click.option(
    "--proxy",
    is_flag=True,
    help="Trust X-Forwarded-For, -Proto, -Host and -Prefix of the one proxy in front.",
)
@click.option(
    "--prefix",
    default="",
    metavar="PATH",
    help="The path of a proxy, if the proxy keeps it in the requests.",
)
@click.pass_obj
def web(  # noqa: PLR0913 - its options
    deployment: Deployment,
    *,
    host: str,
    port: int,
    token: str | None,
    names: tuple[str, ...],
    proxy: bool,
    prefix: str,
) -> None:
    """Serve a web page that shows the fleet and finds jobs.

    Without a token it is read-only. It listens on this machine only; with --host others can reach
    it, and then reading needs the token too. It speaks plain HTTP: on an untrusted network, put a
    proxy with TLS in front of it. Needs the packages of celery-mysqllock[web].
    """
    try:
        import waitress  # noqa: F401, PLC0415 - an extra
        from werkzeug.middleware.proxy_fix import ProxyFix  # noqa: PLC0415 - an extra

        from celery_mysqllock.cli.web.access import Access  # noqa: PLC0415 - needs the extra
        from celery_mysqllock.cli.web.site import create_site  # noqa: PLC0415 - needs the extra
    except ImportError as error:
        raise missing_extra("web", "web") from error
    access = Access(token or None, host, names)
    deployment.addresses  # noqa: B018 - raises if an option is wrong
    reader = OverviewReader(deployment)
    site: WSGIApplication = HostCheck(create_site(deployment, reader, access), host, names)
    if proxy:
        site = ProxyFix(site, x_for=1, x_proto=1, x_host=1, x_prefix=1)
    serve(site, host, port, "mysqllock web", prefix)
    reader.close()
