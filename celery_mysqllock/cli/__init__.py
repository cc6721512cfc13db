"""``celery -A app mysqllock ...``: the commands for the job table and the locks."""

from __future__ import annotations

import click

from celery_mysqllock.cli.migrate import migrate


@click.group(help="Work with celery-mysqllock's job table and locks.")
def mysqllock() -> None:
    """The group that Celery's command line finds through its entry point."""


mysqllock.add_command(migrate)

__all__ = ["mysqllock"]
