"""``web``: the fleet as a page, with a search for jobs, and actions for who has the token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from celery_mysqllock.cli.overview import Watch
from celery_mysqllock.cli.serving import host_option, serve
from celery_mysqllock.cli.web.access import Access
from celery_mysqllock.cli.web.handler import Site, WebHandler

if TYPE_CHECKING:
    from celery_mysqllock.cli.place import Place

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
@click.option(
    "--allow-host",
    "names",
    multiple=True,
    metavar="NAME",
    help="A further name that the page is asked for by, as through a proxy.",
)
@click.pass_obj
def web(place: Place, *, host: str, port: int, token: str | None, names: tuple[str, ...]) -> None:
    """Serve a page that shows the fleet, and finds jobs.

    It is read-only without a token, and seen from this machine only. With --host it is seen from
    others, and then needs the token for reading too. It speaks plain HTTP: put a proxy with TLS in
    front of it where others listen.
    """
    access = Access(token or None, host, names)
    place.addresses  # noqa: B018 - raises now what is wrong with the options
    watch = Watch(place)
    handler = type("SiteHandler", (WebHandler,), {"site": Site(place, watch, access)})
    serve(handler, host, port, "mysqllock web")
    watch.close()
