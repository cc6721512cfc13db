"""``mysqllock`` and ``celery -A app mysqllock``: commands for the job table and the locks."""

from __future__ import annotations

from pathlib import Path

import click

from celery_mysqllock.cli.process import hide_passwords, settle_in

hide_passwords()  # before the rest is loaded, which takes a moment

from celery_mysqllock.cli.consumers import consumers
from celery_mysqllock.cli.deployment import URL_VARIABLE, choose_url, find_deployment
from celery_mysqllock.cli.doctor import doctor
from celery_mysqllock.cli.errors import ErrorGroup, speak_plainly
from celery_mysqllock.cli.jobs import jobs
from celery_mysqllock.cli.locks import locks
from celery_mysqllock.cli.metrics import metrics
from celery_mysqllock.cli.migrate import migrate
from celery_mysqllock.cli.queues import queues
from celery_mysqllock.cli.run import run
from celery_mysqllock.cli.stats import stats
from celery_mysqllock.cli.top import top
from celery_mysqllock.cli.web import web

speak_plainly()


@click.group(cls=ErrorGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-A", "--app", help="The Celery app, as for the celery command.")
@click.option("--url", envvar=URL_VARIABLE, help="mysql://user:password@host:3306/database")
@click.option(
    "--url-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file whose first line is the URL; one that all users may read is refused.",
)
@click.option("--table", help="The job table's name, where it is not the app's.")
@click.version_option(package_name="celery-mysqllock")
@click.pass_context
def mysqllock(
    context: click.Context,
    *,
    app: str | None,
    url: str | None,
    url_file: Path | None,
    table: str | None,
) -> None:
    """Work with celery-mysqllock's job table and locks."""
    settle_in()
    context.obj = find_deployment(context, app, choose_url(context, url, url_file), table)


for command in (consumers, doctor, jobs, locks, metrics, migrate, queues, run, stats, top, web):
    mysqllock.add_command(command)

__all__ = ["mysqllock"]
