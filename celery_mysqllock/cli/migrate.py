"""``migrate``: make the job table, or bring it to this release's schema."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from celery_mysqllock.jobs import Migrations, Widening
from celery_mysqllock.jobs.online import Step
from celery_mysqllock.mysql import Session

if TYPE_CHECKING:
    from celery_mysqllock.cli.deployment import Deployment

_WIDENING = Step(
    "wide_ids", ("-- a second table with BIGINT ids, kept in step by triggers, replaces the first",)
)


@click.command()
@click.option("--dry-run", is_flag=True, help="Print the SQL and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
@click.option("--no-procedure", is_flag=True, help="Do not make the procedure mysqllock_publish.")
@click.option(
    "--wide-ids",
    is_flag=True,
    help="Make the ids of an adopted table BIGINT as well, while programs use it.",
)
@click.pass_obj
def migrate(
    deployment: Deployment, *, dry_run: bool, as_json: bool, no_procedure: bool, wide_ids: bool
) -> None:
    """Make the job table of the app's broker_url, or bring it to this release's schema.

    An existing table is changed by this command only, and only when it is a job table. Programs go
    on using it meanwhile. Where broker_url is a list, each server's is. A run that was killed is
    finished by the next.
    """
    table = deployment.settings.table
    for address in deployment.addresses:
        with Session(address) as session:
            migrations = Migrations(
                session,
                table,
                namespace=deployment.namespace(session),
                renames=True,
                with_procedure=not no_procedure,
            )
            done = migrations.pending()
            for step in done:
                if step.notice:
                    click.echo(f"{table}: {step.notice}", err=True)
            if not dry_run:
                done = migrations.apply()
            if wide_ids and migrations.version() is not None:
                widening = Widening(session, table)
                if widening.is_needed:
                    done.append(_WIDENING)
                    if not dry_run:
                        widening.apply()
        _report(table, done, dry_run=dry_run, as_json=as_json)


def _report(table: str, done: list[Step], *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        report = {"table": table, "dry_run": dry_run, "migrations": [step.name for step in done]}
        click.echo(json.dumps(report))
        return
    for step in done:
        click.echo(step.sql if dry_run else f"{table}: {step.name}")
    if not done:
        click.echo(f"{table} is up to date.")
