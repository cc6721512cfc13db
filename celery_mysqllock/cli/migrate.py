"""``migrate``: make the job table, or bring it to this release's shape."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from celery_mysqllock.exceptions import MySQLLockError, SettingsError
from celery_mysqllock.jobs import Migrations
from celery_mysqllock.mysql import Address, Session
from celery_mysqllock.settings import BrokerSettings

if TYPE_CHECKING:
    from celery import Celery
    from celery.bin.base import CLIContext

    from celery_mysqllock.jobs.migrate import Migration


@click.command()
@click.option("--dry-run", is_flag=True, help="Print the SQL and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
@click.pass_obj
def migrate(context: CLIContext, *, dry_run: bool, as_json: bool) -> None:
    """Make the job table of the app's broker_url, or bring it to this release's shape.

    An existing table is changed by this command only, and only when it is a job table. Where
    broker_url is a list, each server's is.
    """
    try:
        addresses, table = _job_tables(context.app)
        for address in addresses:
            with Session(address) as session:
                migrations = Migrations(session, table)
                done = migrations.pending() if dry_run else migrations.apply()
            _report(table, done, dry_run=dry_run, as_json=as_json)
    except MySQLLockError as error:
        raise click.ClickException(str(error)) from error


def _report(table: str, done: list[Migration], *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        report = {"table": table, "dry_run": dry_run, "migrations": [step.name for step in done]}
        click.echo(json.dumps(report))
        return
    for step in done:
        click.echo(step.sql if dry_run else f"{table}: {step.version:04d} {step.name}")
    if not done:
        click.echo(f"{table} is up to date.")


def _job_tables(app: Celery) -> tuple[list[Address], str]:
    """Where the app's job table is: on each server, when the broker is a list of URLs.

    Raises:
        SettingsError: One of the app's brokers is no mysql:// URL.
    """
    configured = app.conf.broker_write_url or ""
    urls = configured.split(";") if isinstance(configured, str) else list(configured)
    if not all(url.startswith("mysql://") for url in urls):
        raise SettingsError(
            "broker_url names no MySQL database, so there is no job table to migrate. Set it to "
            "mysql://user:password@host:3306/database."
        )
    table = (app.conf.broker_transport_options or {}).get("table", BrokerSettings.table)
    return [Address.parse(url) for url in urls], table
