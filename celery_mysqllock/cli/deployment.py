"""The deployment that a command works on: the servers, job table and locks of an app or a URL."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import click
from celery.app.utils import find_app
from click.core import ParameterSource

from celery_mysqllock.app import broker_of, lock_settings
from celery_mysqllock.exceptions import SettingsError
from celery_mysqllock.jobs import Control, Inspection, LockNames, Migrations
from celery_mysqllock.mysql import Address, Session, open_first
from celery_mysqllock.settings import BrokerSettings, LockSettings, check_identifier

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from celery import Celery

    from celery_mysqllock.app import Broker

#: The environment variable that stands for ``--url``.
URL_VARIABLE = "MYSQLLOCK_URL"
_NOWHERE = (
    "Say where to work: 'celery -A <app> mysqllock ...', 'mysqllock -A <app> ...', or "
    "'mysqllock --url mysql://user:password@host:3306/database ...' (or --url-file, or "
    "MYSQLLOCK_URL)."
)


@dataclass(frozen=True)
class Deployment:
    """What a command works on; read when it is first asked for, so that ``--help`` needs nothing.

    Attributes:
        app: The Celery app, None when a URL was given instead.
        url: The URL, None for the app's.
        table: The job table's name, None for the app's setting.
    """

    app: Celery | None = None
    url: str | None = field(default=None, repr=False)
    table: str | None = None

    @property
    def broker(self) -> Broker | None:
        """The app's MySQL broker, None without an app or with another broker.

        Raises:
            SettingsError: A setting is wrong.
        """
        return None if self.app is None else broker_of(self.app)

    @property
    def has_jobs(self) -> bool:
        """Whether there is a job table; errors as in ``broker``."""
        return self.url is not None or self.broker is not None

    @property
    def settings(self) -> BrokerSettings:
        """How the job table is used; the defaults where the app's broker is not MySQL.

        Raises:
            SettingsError: A setting is wrong.
        """
        broker = self.broker
        settings = BrokerSettings() if broker is None else broker.settings
        if self.table is None:
            return settings
        return replace(settings, table=check_identifier("--table", self.table))

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The servers of the job table, several when ``broker_url`` is a list.

        Raises:
            SettingsError: Neither an app nor a URL was given, or the app's broker is not MySQL.
        """
        if self.url is not None:
            return (Address.parse(self.url),)
        if self.app is None:
            raise SettingsError(_NOWHERE)
        broker = self.broker
        if broker is None:
            raise SettingsError(
                "broker_url names no MySQL database, so there is no job table. Set it to "
                "mysql://user:password@host:3306/database."
            )
        return broker.addresses

    def namespace(self, session: Session) -> str | None:
        """The namespace of the app's broker, None when no app was given."""
        if self.app is None:
            return None
        return self.settings.namespace or LockNames.of(session, self.settings.table).database

    @property
    def locks(self) -> LockSettings:
        """The settings of the locks.

        Raises:
            SettingsError: Neither an app nor a URL was given, or a setting is wrong.
        """
        if self.url is not None:
            return LockSettings(url=self.url)
        if self.app is None:
            raise SettingsError(_NOWHERE)
        return lock_settings(self.app)

    def open_session(self, *, read_timeout: float | None = None) -> Session:
        """Open a session with the first server of the job table that answers.

        Args:
            read_timeout: As for ``Session``; None for its default.

        Raises:
            CannotConnect: No server answers.
            LoginRefused, UnknownDatabase, MissingPrivilege: A server refuses the login.
        """
        return open_first(
            [
                Session(address)
                if read_timeout is None
                else Session(address, read_timeout=read_timeout)
                for address in self.addresses
            ]
        )

    @contextmanager
    def inspection(self) -> Iterator[Inspection]:
        """Read the job table, on a session of its own; errors as in ``open_session``.

        Raises:
            TableMissing, TableMismatch: There is no job table of this release's shape.
        """
        with self.open_session() as session:
            Migrations(session, self.settings.table).check()
            yield Inspection(session, self.settings.table)

    @contextmanager
    def control(self) -> Iterator[Control]:
        """Change jobs and queues, on a session of its own; errors as in ``inspection``."""
        with self.open_session() as session:
            Migrations(session, self.settings.table).check()
            yield Control(session, self.settings.table)


def choose_url(context: click.Context, url: str | None, file: Path | None) -> str | None:
    """The URL of ``--url``, ``--url-file`` or the environment.

    Raises:
        click.UsageError: Both options are given; or the file cannot be read, has no URL in its
            first line, or is readable by all users of the host.
    """
    if file is None:
        return url
    if context.get_parameter_source("url") == ParameterSource.COMMANDLINE:
        raise click.UsageError("--url and --url-file exclude each other.")
    try:
        with file.open(encoding="utf-8") as opened:
            is_open_to_all = os.fstat(opened.fileno()).st_mode & stat.S_IROTH
            found = "" if is_open_to_all else opened.readline().strip()
    except (OSError, UnicodeDecodeError) as error:
        # not chained, since the error quotes what cannot be decoded
        reason = (error.strerror if isinstance(error, OSError) else None) or "it is no text"
        raise click.UsageError(f"--url-file {file} cannot be read: {reason}.") from None
    if is_open_to_all:
        raise click.UsageError(
            f"--url-file {file} may be read by all users of this host. Take that away: "
            f"chmod o= {file}"
        )
    if not found:
        raise click.UsageError(f"--url-file {file} has no URL in its first line.")
    return found


def find_deployment(
    context: click.Context, app: str | None, url: str | None, table: str | None
) -> Deployment:
    """The deployment that the options name; under ``celery -A app`` that app's.

    Raises:
        click.UsageError: There is no such app.
    """
    if app is not None:
        return Deployment(_find_app(app), url, table)
    return Deployment(getattr(context.find_object(object), "app", None), url, table)


def _find_app(name: str) -> Celery:
    try:
        return find_app(name)
    except (ImportError, AttributeError) as error:
        raise click.UsageError(f"There is no Celery app {name!r}: {error}") from error
