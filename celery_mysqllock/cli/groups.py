"""The groups of commands: they say errors in one sentence, and some list when called alone."""

from __future__ import annotations

import errno
from typing import Any

import click

from celery_mysqllock.cli.process import leave_stdout
from celery_mysqllock.exceptions import MySQLLockError


class Group(click.Group):
    """A group whose commands say what is wrong in one sentence, without a traceback."""

    def invoke(self, context: click.Context) -> Any:  # noqa: ANN401 - click's
        """Run the command."""
        try:
            return super().invoke(context)
        except MySQLLockError as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # click ends quietly: the reader has seen enough
            leave_stdout()
            raise click.ClickException(f"{error.strerror or error}.") from error


class Listing(click.Group):
    """A group that lists when no command is named: its command ``list``, with all its options."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Put ``list`` in front where a command's name is missing."""
        if not args or (args[0].startswith("-") and args[0] not in context.help_option_names):
            args = ["list", *args]
        return super().parse_args(context, args)
