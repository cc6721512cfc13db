"""``web``: the fleet as a page, with a search for jobs, and actions for who has the token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from celery_mysqllock.cli.overview import Watch
from celery_mysqllock.cli.serving import Named, host_option, missing_extra, names_option, serve

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
    help="What lets a reader retry, discard, pause and resume; better in MYSQLLOCK_WEB_TOKEN, "
    "where no other user of this machine sees it.",
)
@names_option
@click.option(
    "--proxy",
    is_flag=True,
    help="There is one proxy in front, whose X-Forwarded-For, -Proto, -Host and -Prefix are right.",
)
@click.option(
    "--prefix",
    default="",
    metavar="PATH",
    help="The path below which a proxy serves it, where the proxy leaves it in the requests.",
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
    """Serve a page that shows the fleet, and finds jobs.

    It is read-only without a token, and seen from this machine only. With --host it is seen from
    others, and then needs the token for reading too. It speaks plain HTTP: put a proxy with TLS in
    front of it where others listen. It needs the packages of celery-mysqllock[web].
    """
    try:
        import waitress  # noqa: F401, PLC0415 - an extra
        from werkzeug.middleware.proxy_fix import ProxyFix  # noqa: PLC0415 - an extra

        from celery_mysqllock.cli.web.access import Access  # noqa: PLC0415 - needs the extra
        from celery_mysqllock.cli.web.site import create_site  # noqa: PLC0415 - needs the extra
    except ImportError as error:
        raise missing_extra("web", "web") from error
    access = Access(token or None, host, names)
    deployment.addresses  # noqa: B018 - raises now what is wrong with the options
    watch = Watch(deployment)
    site: WSGIApplication = Named(create_site(deployment, watch, access), host, names)
    if proxy:
        site = ProxyFix(site, x_for=1, x_proto=1, x_host=1, x_prefix=1)
    serve(site, host, port, "mysqllock web", prefix)
    watch.close()
