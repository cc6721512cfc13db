"""``mysqllock`` and ``celery -A app mysqllock``: commands for the job table and the locks."""

from __future__ import annotations

import click

from celery_mysqllock.cli.consumers import consumers
from celery_mysqllock.cli.doctor import doctor
from celery_mysqllock.cli.jobs import jobs
from celery_mysqllock.cli.locks import locks
from celery_mysqllock.cli.metrics import metrics
from celery_mysqllock.cli.migrate import migrate
from celery_mysqllock.cli.place import Group, find_place
from celery_mysqllock.cli.process import settle_in
from celery_mysqllock.cli.queues import queues
from celery_mysqllock.cli.run import run
from celery_mysqllock.cli.stats import stats
from celery_mysqllock.cli.top import top
from celery_mysqllock.cli.web import web


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-A", "--app", help="The Celery app, as for the celery command.")
@click.option("--url", envvar="MYSQLLOCK_URL", help="mysql://user:password@host:3306/database")
@click.option("--table", help="The job table's name, where it is not the app's.")
@click.version_option(package_name="celery-mysqllock")
@click.pass_context
def mysqllock(context: click.Context, app: str | None, url: str | None, table: str | None) -> None:
    """Work with celery-mysqllock's job table and locks."""
    settle_in()
    context.obj = find_place(context, app, url, table)


for command in (consumers, doctor, jobs, locks, metrics, migrate, queues, run, stats, top, web):
    mysqllock.add_command(command)

__all__ = ["mysqllock"]
